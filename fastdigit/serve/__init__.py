"""An HTTP server of models: the Open Inference Protocol, a page to draw on, metrics.

``fastdigit serve`` runs it; :func:`create_app` gives the ASGI application to a server of one's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastdigit.errors import MissingExtraError, pip_install
from fastdigit.serve.settings import Settings

if TYPE_CHECKING:
    from fastdigit.serve.app import App

__all__ = ["Settings", "create_app"]

EXTRA = ("PIL", "httptools", "prometheus_client", "starlette", "uvicorn")

#: Versions of uvicorn that were tested: from the first up to, but not including, the second. Before
#: 0.53 an answer given while the server ends does not say that the connection closes; before 0.51
#: the supervisor of workers takes other arguments.
UVICORN = ("0.53", "0.55")


def require_extra() -> None:
    """Raise :class:`MissingExtraError` unless what the server needs is installed."""
    from importlib.util import find_spec

    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"the server needs {', '.join(missing)}: {pip_install('serve')}")


def require_uvicorn() -> None:
    """Raise :class:`MissingExtraError` if uvicorn has a version that was not tested.

    ``fastdigit serve`` relies on more of it than it documents; an application from
    :func:`create_app`, in a server of one's own, does not.
    """
    from importlib.metadata import version

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(".")[:2]]

    installed, (first, end) = version("uvicorn"), UVICORN
    if not numbers(first) <= numbers(installed) < numbers(end):
        raise MissingExtraError(
            f"uvicorn is {installed}; the server was tested with {first} and later, below {end}: "
            f"{pip_install('serve')}"
        )


def create_app(settings: Settings | None = None) -> App:
    """Make the ASGI application; its models are open when it returns.

    Parameters
    ----------
    settings
        Models and limits; by default, those of :class:`Settings`.

    Raises
    ------
    MissingExtraError
        The extra ``serve`` is not installed.
    OSError, ModelFormatError, UnsupportedError, IsaError
        A model cannot be opened; see :func:`fastdigit.load`.

    Notes
    -----
    It may be made before a server forks its workers, which then share the models' memory: no
    thread and no event loop is bound to it until its first request.
    """
    require_extra()
    from fastdigit.serve.app import App

    return App(settings or Settings())
