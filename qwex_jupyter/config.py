"""Every default in one place, and the one way in which it is resolved.

In rising order: what stands here and what runners declare, ``ipython_config.py``, ``%config
Qwex...``, ``QWEX_*`` in the environment, and options on the line. It is the same for the magics,
for ``qwex`` in a terminal and in Python: where no notebook has read ``ipython_config.py``, it is
read here.
"""

from __future__ import annotations

import os
import sys
from ast import literal_eval
from functools import cache
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Dict, Enum, TraitError, Unicode
from traitlets.config import Config, Configurable

from qwex_jupyter.errors import SpecError

if TYPE_CHECKING:
    from traitlets import TraitType

    from qwex_jupyter.model.declaration import Setting

    _Text = Unicode[str, str | bytes]
else:
    _Text = Unicode  # before traitlets 5.10 it takes no types

_FILES = ("ipython_config.py", "ipython_config.json")
_SYSTEM_FOLDERS = ("/etc/ipython", "/usr/local/etc/ipython")


class Time(_Text):
    """A time as an option takes it.

    Args:
        default: Its value where nobody says anything.
        limit: It ends something: '' is none, and zero is no time.
        more: What any setting is told.
    """

    def __init__(self, default: str, *, limit: bool = False, **more: Any) -> None:
        self._limit = limit
        self.info_text = "a time like 90, 10m or 1h30m" + (", or '' for none" if limit else "")
        super().__init__(default, **more)

    def validate(self, obj: Any, value: Any) -> Any:
        """The text, where it is such a time."""
        from qwex_jupyter.model.units import parse_duration  # a default needs none of it

        text = super().validate(obj, value)
        try:
            usable = parse_duration(text) > 0 or not self._limit
        except SpecError:
            usable = self._limit and text == ""
        if not usable:
            self.error(obj, value)
        return text


class Qwex(Configurable):
    """Settings of qwex_jupyter."""

    runner = Unicode(
        "", help="Runner where none is named; '' for docker with an image, else local."
    ).tag(config=True)
    display = Enum(
        ("auto", "pane", "stream", "none"),
        "auto",
        help="What a foreground cell shows: a pane, plain text (consoles, papermill) or nothing.",
    ).tag(config=True)
    raise_error = Bool(True, help="A failed or stopped foreground run raises.").tag(config=True)
    grace = Time("10s", help="Between the nice and the hard way of stopping.").tag(config=True)
    timeout = Time("", limit=True, help="Timeout of runs without --timeout; '' for none.").tag(
        config=True
    )
    profiles = Dict(help="Sets of options by name, for --profile NAME, as one text each.").tag(
        config=True
    )

    def complete(self) -> None:
        """Adds what the runners declare that are known by now, which takes a look at each."""
        from qwex_jupyter import runners

        own = set(dir(self))
        configured = self.config.get("Qwex", {})
        # Of two that declare the same name the first counts, so it comes last here.
        new = {
            name: _trait(setting, configured.get(name, setting.default))
            for declaration in reversed(runners.declarations(installed=True))
            for name, setting in declaration.settings.items()
            if name not in own
        }
        for name, trait in new.items():
            try:
                trait.validate(self, trait.default_value)
            except TraitError as error:
                raise TraitError(
                    f"The setting {name} = {trait.default_value!r} can't be used: give "
                    f"{trait.info()}."
                ) from error
        if new:
            # At once, so that another thread, which may do the same, sees none or all of them.
            self.add_traits(**new)

    # Loading shall not look at runners, so their settings come when somebody wants them: by a
    # configuration that names one, by its name, or for the list of all.

    def traits(self, **metadata: Any) -> dict[str, TraitType[Any, Any]]:
        """The settings by name, those of runners too where the configuration names one."""
        self._look_at(self.config)
        return super().traits(**metadata)

    def update_config(self, config: Config) -> None:
        """Takes what ``%config`` says."""
        self._look_at(config)
        super().update_config(config)

    def _look_at(self, config: Config) -> None:
        named = config.get("Qwex")
        if named and not named.keys() <= super().traits().keys():
            self.complete()

    @classmethod
    def class_traits(cls, **metadata: Any) -> dict[str, TraitType[Any, Any]]:
        """The settings by name, as ``%config Qwex`` lists them."""
        if current is not None:
            current.complete()
        return super().class_traits(**metadata)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            self.complete()
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            self.complete()
        super().__setattr__(name, value)

    def value(self, name: str) -> Any:
        """A setting, the environment's word before the configured one.

        Raises:
            SpecError: The environment's word isn't a value of this setting.
        """
        variable = _variable(name)
        text = os.environ.get(variable)
        configured = getattr(self, name)
        if text is None:
            return configured
        trait: Any = self.traits()[name]
        try:
            given = literal_eval(text) if isinstance(trait, Dict) else trait.from_string(text)
            return trait.validate(self, given)
        except (TraitError, ValueError, SyntaxError, TypeError) as error:
            if not text:
                return configured  # an empty one that means nothing is as good as none
            allowed = trait.info()
            raise SpecError(f"{variable}={text!r} can't be used: give {allowed}.") from error


def _trait(setting: Setting, value: Any) -> Any:
    made: Any
    if setting.choices:
        made = Enum(setting.choices, value, help=setting.help)
    else:
        made = (Time if setting.is_time else Unicode)(value, help=setting.help)
    return made.tag(config=True)


# What a notebook's configuration says; None elsewhere.
current: Qwex | None = None


def setting(name: str) -> Any:
    """A setting as it is now, for whoever isn't given a configuration.

    Raises:
        SpecError: Its value, or a file of settings, can't be used.
    """
    return (current or _of_files(tuple(_files()))).value(name)


def origin(name: str) -> str:
    """Where a setting has its value from, for a text about a wrong one."""
    variable = _variable(name)
    if variable in os.environ:
        return f"{variable} in the environment"
    return f"Qwex.{name} of the settings"


def _variable(name: str) -> str:
    return f"QWEX_{name.upper()}"


def _ipython_folder() -> str:
    return os.path.expanduser(os.environ.get("IPYTHONDIR") or "~/.ipython")


def _files() -> list[str]:
    """The configuration files of IPython that are there, the one that counts most last."""
    folders = (
        *_SYSTEM_FOLDERS,
        os.path.join(sys.prefix, "etc", "ipython"),
        os.path.join(_ipython_folder(), "profile_default"),
    )
    paths = (os.path.join(folder, name) for folder in folders for name in _FILES)
    return [path for path in paths if os.path.isfile(path)]


@cache
def _of_files(paths: tuple[str, ...]) -> Qwex:
    """What those files say.

    Raises:
        SpecError: One of them can't be read, or holds a wrong value.
    """
    from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

    class Loader(PyFileConfigLoader):
        """Lets a file load that of another profile, as IPython's own loader does."""

        def load_subconfig(
            self, fname: str, path: str | None = None, profile: str | None = None
        ) -> None:
            """Loads another file into this one."""
            if profile is not None:
                path = os.path.join(_ipython_folder(), f"profile_{profile}")
            super().load_subconfig(fname, path=path)

    found = Config()
    for path in paths:
        loader = Loader if path.endswith(".py") else JSONFileConfigLoader
        try:
            found.merge(loader(os.path.basename(path), os.path.dirname(path)).load_config())
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise SpecError(f"{path} can't be read ({why}): mend it, or move it away.") from error
    try:
        return Qwex(config=Config({"Qwex": found["Qwex"]}) if "Qwex" in found else Config())
    except TraitError as error:
        raise SpecError(f"{' and '.join(paths)}: {error} Mend that setting.") from error
