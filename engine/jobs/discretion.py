"""What leaves this machine names no user of it and no place on it.

Paths are told as the person wrote them. Of those that chelate made absolute, or that the person wrote
so inside their home folder, and of whatever messages and logs name:

    what was written relative, or with ~     as it was written
    below chelate's home folder              $CHELATE_HOME/…
    below the user's home folder             ~/…
    any other path, in messages and logs     …/ and its last two parts
    the user's name as a part of a path      USER

An absolute path outside the home folder that the person wrote as a key stays: it is what they said.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.jobs.asked import raw_as_written, spellings
from engine.spec import toml

if TYPE_CHECKING:
    from engine.jobs.runs import Run

REST = r"""(?:/[^\s"'<>|:;,()\[\]{}`]*)?"""  # of a path below a known folder
# A path nobody told us of: two parts at least, and not the end of a longer word or address.
ENDS = r"(?![\w+@=-]|\.\w)"  # of a part of a path; a sentence may end there, too
STRAY = re.compile(r"(?<![\w~.$…/-])/(?:[\w.+@=-]+/)+[\w.+@=-]*")
NOBODY = frozenset({"", "root", "home", "user", "users"})


class Discretion:
    """Rewrites texts for those who are not to learn where they come from.

    `spellings` is absolute path → what is said instead; the home folders of user and chelate are
    added.
    """

    def __init__(self, spellings: Mapping[str, str], chelate_home: Path) -> None:
        known = dict(spellings) | {str(home): "~" for home in _homes()}
        known[str(chelate_home)] = "$CHELATE_HOME"
        self._said: dict[str, str] = {}
        for path, text in known.items():
            self._said[path.rstrip("/")] = text
        for path, text in known.items():
            for other in _other_names(path):
                self._said.setdefault(other.rstrip("/"), text)
        self._said.pop("", None)  # the root: everything is below it
        longest = sorted(self._said, key=len, reverse=True)
        roots, users = ("|".join(map(re.escape, words)) for words in (longest, sorted(_users())))
        self._known = re.compile(rf"(?<![\w.~$-])({roots}){ENDS}({REST})")
        self._user = re.compile(rf"(?<![\w.-])(?:{users})(?=/)|(?<=/)(?:{users}){ENDS}")
        self._has_user = bool(users)

    def text(self, text: str, *, message: bool = False) -> str:
        """`message`: one of ours, in which every path goes, not only those below known folders."""
        if "/" not in text:
            return text
        text = self.places(text)
        if message:
            text = STRAY.sub(_last_parts, text)
        return self._user.sub("USER", text) if self._has_user else text

    def places(self, text: str) -> str:
        """With what is below known folders as it was written, and nothing else changed."""
        return self._known.sub(lambda found: self._said[found[1]] + found[2], text)

    def value(self, value: Any, *, message: bool = False) -> Any:
        """The same for every text in plain data."""
        if isinstance(value, str):
            return self.text(value, message=message)
        if isinstance(value, list | tuple):
            return [self.value(item, message=message) for item in value]
        if isinstance(value, dict):
            return {
                self.text(key): self.value(item, message=message) for key, item in value.items()
            }
        return value

    def lines(self, content: bytes) -> bytes:
        """A log: lines of JSON, or of anything."""
        return b"".join(self._line(line) for line in content.splitlines(keepends=True))

    def _line(self, line: bytes) -> bytes:
        if b"/" not in line:
            return line
        text = line.decode("utf-8", "surrogateescape")
        if text.startswith("{"):
            try:
                told = json.loads(text)
                return json.dumps(self.value(told, message=True)).encode() + b"\n"
            except ValueError:
                pass
        return self.text(text, message=True).encode("utf-8", "surrogateescape")


def discretion_of(run: Run) -> Discretion:
    return Discretion(spellings(run), run.home.root)


def asked_discreetly(run: Run) -> str:
    """What was asked of a run, as TOML without a header. Raises BadInput."""
    return toml.dumps(discretion_of(run).value(raw_as_written(run)))


def _last_parts(found: re.Match[str]) -> str:
    return "…/" + "/".join(found[0].rstrip("/").split("/")[-2:]).lstrip("/")


def _homes() -> Iterator[Path]:
    """The user's home folder, as the environment and the system have it."""
    with contextlib.suppress(RuntimeError):
        yield Path.home()
    with contextlib.suppress(KeyError):
        yield Path(pwd.getpwuid(os.getuid()).pw_dir)


def _users() -> set[str]:
    found = {os.environ.get(name, "") for name in ("LOGNAME", "USER")}
    with contextlib.suppress(KeyError):
        found.add(pwd.getpwuid(os.getuid()).pw_name)
    found |= {home.name for home in _homes() if home.parent != home.parent.parent}
    return {name for name in found if name.lower() not in NOBODY and "/" not in name}


def _other_names(path: str) -> Iterator[str]:
    """The same place without links and "..": how a component that resolves its path names it."""
    try:
        yield os.path.normpath(path)
        yield os.path.realpath(path)
    except (OSError, ValueError):
        return
