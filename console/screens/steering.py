"""Screens from which runs are steered: the same keys do the same to the run at hand."""

from __future__ import annotations

from abc import abstractmethod

from console.screens.base import ConsoleScreen
from console.viewmodel import RunRow


class SteeringScreen(ConsoleScreen):
    @abstractmethod
    def run_at_hand(self) -> RunRow | None:
        """The run that the keys are about; None if there is none."""

    def action_stop(self) -> None:
        self.steer("stop")

    def action_resume(self) -> None:
        self.steer("resume")

    def action_hold(self) -> None:
        self.steer("hold")

    def action_retry(self) -> None:
        self.steer("retry")

    def steer(self, what: str) -> None:
        """Do to it what a function of acting.py is called by."""
        from console.screens import acting

        row = self.run_at_hand()
        if row is not None:
            getattr(acting, what)(self.chelate, row)
