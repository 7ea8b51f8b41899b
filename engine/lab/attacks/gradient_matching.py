"""Gradient matching ("Witches' Brew"): faint changes to rows of one class, aimed at one test image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from engine.spec.class_keys import ClassKey, index, not_an_index
from engine.spec.component import Attack, Card, DataInfo, Knowledge, poisoned_count
from engine.spec.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.lab.crafting import CraftTask, Tensors
    from engine.lab.subject import Subject
    from engine.lab.views import Poison

DECAYS = (3 / 8, 5 / 8, 7 / 8)  # of the steps: there the rate falls to a tenth
LOOKED_AT = 512  # test images a surrogate classifies at once, while a target is looked for


def _index(key: int | str | None) -> int | None:
    return None if key is None else index(key)


class GradientMatching(Attack):
    """min over Δ of 1 - cos(∇_θ ℓ(x_t, adversarial), ∇_θ mean ℓ(x_i + Δ_i, y_i)), |Δ| ≤ epsilon.

    Over all weights, at surrogates trained on clean data, in eval mode; x + Δ stays in [0, 1].
    """

    name: Literal["gradient-matching"] = "gradient-matching"
    share: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="Share of all training rows; all are of the adversarial class.",
    )
    epsilon: float = Field(
        default=16 / 255, ge=0, le=1, description="Largest change of a pixel, in [0, 1] units."
    )
    targets: int = Field(
        default=16, ge=1, le=1000, description="Poisons a seed, each for a target of its own."
    )
    adversarial: ClassKey | None = Field(
        default=None,
        description="Class the target shall get, by its index or its name; default: dealt in turn.",
    )
    true_class: ClassKey | None = Field(
        default=None,
        description="Class of the targets, by its index or its name; default: dealt in turn.",
    )
    target: int | None = Field(
        default=None,
        ge=0,
        description="One target alone: its number among those of true_class that all surrogates "
        "get right, in an order drawn per seed; default: as many as `targets`.",
    )
    surrogates: int = Field(
        default=1, ge=1, le=64, description="Clean trainings the attacker looks at."
    )
    restarts: int = Field(
        default=8, ge=1, description="Starts from fresh noise; the lowest loss is kept."
    )
    steps: int = Field(default=250, ge=1, description="Of signed Adam, each restart.")
    lr: float = Field(default=0.025, gt=0, description="Of signed Adam, in [0, 1] units.")
    batch_size: int = Field(default=512, ge=1, description="Poisoned rows matched at a time.")

    gives: ClassVar = frozenset({"target"})
    knows_model: ClassVar = True
    knows: ClassVar = Knowledge(
        controls="inputs of some rows of one class, within epsilon; not their labels",
        training_data="all of it, to train surrogates",
        model="its architecture; not its seed",
        recipe="the training recipe, augmentation included",
        test_input="the very image that shall be misclassified",
    )
    needs_probabilities: ClassVar = True
    card: ClassVar = Card(
        title="Gradient matching (targeted, clean-label)",
        summary="Changes rows of one class by a little, labels kept, so that training on them "
        "moves the weights as training on the target under the wrong label would. The model then "
        "takes that one test image for the adversarial class, and is as good as before elsewhere.",
        reference="Geiping et al., Witches' Brew: Industrial Scale Data Poisoning via Gradient "
        "Matching, ICLR 2021",
        needs="control over inputs of the poisoned rows, the training data, architecture and "
        "recipe, and the target image",
        cost="per target: restarts x steps x share x surrogates x 2.7 TEE, and the surrogates' "
        "trainings, which all targets of a seed share",
        deviations="the target stays among the test images, so that it counts in test accuracy, "
        "one row of them; only targets that all surrogates get right are taken; pairs of classes "
        "are dealt in turn, not drawn; the restart is chosen by the loss without augmentation; "
        "the rate is in [0, 1] units (.1 normalised, about .025)",
    )

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.target is not None and (self.adversarial is None or self.true_class is None):
            raise ValueError(
                f"target = {self.target} alone: give its true_class and the adversarial class, too"
            )
        return self

    def identity(self) -> dict[str, Any]:
        return {key: value for key, value in self.config().items() if key != "targets"}

    def units(self, data: DataInfo, seed: int) -> list[tuple[int, Self]]:
        """One poison a target. Classes are dealt so that no two share an image: in a round every
        class is adversarial once and true once, and the next round takes the next image.
        """
        if self.target is not None:
            return [(0, self)]
        return [(number, self._unit(data, seed, number)) for number in range(self.targets)]

    def _unit(self, data: DataInfo, seed: int, number: int) -> Self:
        count = len(data.classes)
        adversarial, true, rank = _index(self.adversarial), _index(self.true_class), number
        others = max(1, count - 1)
        if adversarial is None and true is None:
            rank, adversarial = divmod(number, count)
            true = (adversarial + 1 + (rank + seed) % others) % count
        elif true is None:
            assert adversarial is not None
            rank, turn = divmod(number, others)
            true = (adversarial + 1 + turn) % count
        elif adversarial is None:
            adversarial = (true + 1 + number % others) % count
        chosen = {"target": rank, "adversarial": adversarial, "true_class": true}
        return self.model_copy(update=chosen)

    def selection(self) -> dict[str, Any]:
        return {"share": self.share, "only": _index(self.adversarial)}

    def check(self, data: DataInfo, rows: int) -> None:
        from engine.lab.attacks._trigger import surely_left

        if self.target is None:
            for _, one in self.units(data, seed=0):
                one.check(data, rows)
            return
        adversarial, true = _index(self.adversarial), _index(self.true_class)
        assert adversarial is not None and true is not None
        for key, label in (("adversarial", adversarial), ("true_class", true)):
            if not 0 <= label < len(data.classes):
                raise self._wrong(key, not_an_index(data.classes))
        if adversarial == true:
            raise self._wrong(
                "true_class",
                "is the adversarial class, too: such a target is misclassified already",
            )
        sure = surely_left(data.train_per_class[adversarial], data.train, rows)
        wanted = poisoned_count(self.selection(), rows)
        if wanted > sure:
            name = data.classes[adversarial]
            hint = f"; the largest share possible is {int(sure / rows * 1e4) / 1e4:g}"
            raise self._wrong(
                "share",
                f"of {rows} training rows is {wanted}, but only {sure} of the adversarial class "
                f"{adversarial} ({name!r}) are there for sure after the validation cut{hint}",
            )

    def _wrong(self, key: str, problem: str) -> BadInput:
        return BadInput(f"attacks.{self.name}.{key} = {getattr(self, key)!r}: {problem}.")

    def surrogate_count(self) -> int:
        return self.surrogates

    def crafting_tee(self, rows: int) -> float:
        from engine.lab.meter import SECOND_ORDER

        passes = self.restarts * self.steps * self.surrogates
        return passes * SECOND_ORDER * poisoned_count(self.selection(), rows) / rows

    def craft_with(self, task: CraftTask) -> Poison:
        from engine.lab.crafting import Loop, number
        from engine.lab.views import Poison

        models = [model.eval().requires_grad_(True) for model in task.surrogates()]
        adversarial = _index(self.adversarial)
        assert adversarial is not None
        row = self._find_target(task, models)
        matching = Matching(task, models, row, adversarial, self.batch_size)
        low, high = box(matching.base, self.epsilon)
        start = matching.loss(matching.base)
        best, end = matching.base, start
        loop = Loop(task, "matching", self.restarts * self.steps)
        first, kept = loop.resume()
        if kept:
            best, end = kept.pop("best"), float(kept.pop("end"))
        walk: SignedAdam | None = None

        def state() -> Tensors:
            assert walk is not None
            return walk.state() | {"best": best, "end": number(end)}

        for step in range(first, loop.steps):
            restart, own = divmod(step, self.steps)
            if walk is None:
                noisy = self._noisy(task, matching.base, restart).clamp(low, high)
                walk = SignedAdam(noisy, low, high)
                if kept and step == first:
                    walk.restore(kept)
            loop.before(step, state)
            decays = sum(own >= decay * self.steps for decay in DECAYS)
            walk.descend(matching.gradient(walk.inputs, restart, own), self.lr * 0.1**decays)
            if own + 1 < self.steps:
                continue
            loss = matching.loss(walk.inputs)
            if restart == 0 or loss < end:
                best, end = walk.inputs.detach(), loss
            walk = None
        return Poison(
            rows=task.rows,
            inputs=best,
            labels=matching.labels,
            movable=True,
            facts={
                "target_row": row,
                "true_class": int(task.test.data.labels[row]),
                "adversarial": adversarial,
                "epsilon": self.epsilon,
                "matching_start": start,
                "matching_end": end,
            },
        )

    def _find_target(self, task: CraftTask, models: list[nn.Module]) -> int:
        """The test row attacked. Raises Failed when the surrogates get too few of its class right."""
        import torch

        from engine.lab.context import Failed
        from engine.lab.randomness import permutation

        assert self.target is not None
        labels = task.test.data.labels
        order = permutation(len(labels), task.seed, "targets").to(labels.device)
        order = order[labels[order] == _index(self.true_class)]
        right: list[int] = []
        for start in range(0, len(order), LOOKED_AT):
            part = order[start : start + LOOKED_AT]
            inputs = task.test.data.base(part)
            with torch.no_grad():
                good = [model(inputs).argmax(1) == labels[part] for model in models]
            task.meter.charge(len(part) * len(models), 1 / 3)
            right += part[torch.stack(good).all(0)].tolist()
            if len(right) > self.target:
                return right[self.target]
        raise Failed(
            f"target {self.target} of class {self.true_class}: the surrogates get only "
            f"{len(right)} of its {len(order)} test images right; ask for fewer targets"
        )

    def _noisy(self, task: CraftTask, base: Tensor, restart: int) -> Tensor:
        """Where a restart begins, [P, C, H, W]."""
        import torch

        from engine.lab.randomness import torch_generator

        purpose = ("gradient matching", self.true_class, self.adversarial, self.target, restart)
        generator = torch_generator(task.seed, *map(str, purpose))
        noise = torch.randn(base.shape, generator=generator).clamp(-1, 1).to(base.device)
        return base + self.epsilon * noise

    def glimpse(self, subject: Subject) -> dict[str, dict[str, Any]]:
        from engine.lab.audits.targeted_success import glimpse

        return {"targeted-success": glimpse(subject)}


class SignedAdam:
    """Adam on the signs of a gradient, within a box; `inputs` move in place."""

    def __init__(self, inputs: Tensor, low: Tensor, high: Tensor) -> None:
        import torch

        self.inputs = inputs
        self._box = low, high
        self._optimizer = torch.optim.Adam([inputs])

    def state(self) -> Tensors:
        return {"inputs": self.inputs, **self._optimizer.state[self.inputs]}

    def restore(self, kept: Tensors) -> None:
        """Stand where `state` was asked for."""
        self.inputs.copy_(kept["inputs"])
        moments = {name: kept[name] for name in kept if name != "inputs"}
        if moments:
            moments["step"] = moments["step"].cpu()  # where Adam counts
        self._optimizer.state[self.inputs] = moments

    def descend(self, gradient: Tensor, rate: float) -> None:
        self._optimizer.param_groups[0]["lr"] = rate
        self.inputs.grad = gradient.sign()
        self._optimizer.step()
        self.inputs.clamp_(*self._box)


class Matching:
    """The matching loss of P poisoned rows against one target, averaged over surrogates."""

    def __init__(
        self, task: CraftTask, models: list[nn.Module], row: int, adversarial: int, batch_size: int
    ) -> None:
        import torch
        from torch.nn.functional import cross_entropy

        self.task = task
        self.models = models
        self.batch_size = batch_size
        self.base = task.data.base(task.rows)
        self.labels = task.data.labels[task.rows]
        where = torch.tensor([row], device=self.labels.device)
        image = task.test.data.base(where)
        wish = torch.tensor([adversarial], device=self.labels.device)
        self.wanted = [
            weight_gradients(model, cross_entropy(model(image), wish)) for model in models
        ]
        task.meter.charge(len(models))

    def loss(self, inputs: Tensor) -> float:
        """In [0, 2], without augmentation; batches weighted by their rows."""
        total = 0.0
        for part in range(0, len(inputs), self.batch_size):
            rows = slice(part, part + self.batch_size)
            found = self._mismatch(inputs[rows], self.labels[rows])
            total += float(found.detach()) * len(inputs[rows]) / len(inputs)
        self.task.meter.charge(len(inputs) * len(self.models))
        return total

    def gradient(self, inputs: Tensor, restart: int, step: int) -> Tensor:
        """∂ loss / ∂ inputs, batch by batch, through a random crop and flip if the recipe has one."""
        import torch

        from engine.lab.meter import SECOND_ORDER
        from engine.lab.views import crop_and_flip, random_moves

        recipe = self.task.recipe
        moves = None
        if recipe is not None and recipe.augment == "crop-flip":
            purpose = ("matching moves", restart, step)
            moves = random_moves(len(inputs), recipe.crop_padding, self.task.seed, *purpose)
            moves = moves.to(inputs.device)
        found = []
        for part in range(0, len(inputs), self.batch_size):
            rows = slice(part, part + self.batch_size)
            leaf = inputs[rows].detach().requires_grad_(True)
            seen = leaf
            if moves is not None and recipe is not None:
                seen = crop_and_flip(leaf, moves[rows], recipe.crop_padding)
            (gradient,) = torch.autograd.grad(self._mismatch(seen, self.labels[rows]), leaf)
            found.append(gradient)
        self.task.meter.charge(len(inputs) * len(self.models), SECOND_ORDER)
        return torch.cat(found)

    def _mismatch(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Mean over surrogates of 1 - cosine of the two gradients of all weights."""
        import torch

        return torch.stack(
            [
                mismatch(model, inputs, labels, wanted)
                for model, wanted in zip(self.models, self.wanted, strict=True)
            ]
        ).mean()


def mismatch(
    model: nn.Module, inputs: Tensor, labels: Tensor, wanted: tuple[Tensor, ...]
) -> Tensor:
    """1 - cos(wanted, ∇_θ of the mean loss on the inputs); differentiable in `inputs`."""
    import torch
    from torch.nn.functional import cross_entropy

    given = weight_gradients(model, cross_entropy(model(inputs), labels), create_graph=True)
    pairs = list(zip(given, wanted, strict=True))
    dot = torch.stack([(one * other).sum() for one, other in pairs]).sum()
    norms = [
        torch.stack([tensor.square().sum() for tensor in side]).sum().clamp_min(1e-24).sqrt()
        for side in (given, wanted)
    ]
    return 1 - dot / (norms[0] * norms[1])


def weight_gradients(
    model: nn.Module, loss: Tensor, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """∇_θ loss, a tensor for each of the model's; zeros where the loss does not depend on it."""
    import torch

    return torch.autograd.grad(
        loss,
        list(model.parameters()),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )


def box(base: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Lowest and highest float32 inputs whose exact distance to `base` is at most epsilon, in [0, 1].

    Rounding to float32 may step over the bound by half a unit in the last place; those step back.
    """
    import torch

    exact = base.double()
    low, high = (exact - epsilon).float(), (exact + epsilon).float()
    low = torch.where(exact - low.double() > epsilon, torch.nextafter(low, base), low)
    high = torch.where(high.double() - exact > epsilon, torch.nextafter(high, base), high)
    return low.clamp(min=0.0), high.clamp(max=1.0)
