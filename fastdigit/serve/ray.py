"""The HTTP server's application as a Ray Serve deployment: replicas behind Ray's proxies.

>>> from ray import serve
>>> from fastdigit.serve.ray import application
>>> serve.run(application({"num_replicas": 2}))

or ``serve run fastdigit.serve.ray:application num_replicas=2`` from a shell. Needs
``pip install "fastdigit[serve,ray]"`` on every node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from fastdigit.errors import MissingExtraError, pip_install
from fastdigit.serve import create_app, require_extra
from fastdigit.serve.settings import Settings

if TYPE_CHECKING:
    from ray import serve

__all__ = ["application"]

# What a replica may have in progress; its queue of images has limits of its own, which answer 429.
MAX_ONGOING_REQUESTS: Final = 256


def application(options: Mapping[str, Any] | None = None) -> serve.Application:
    """Make the Ray Serve application: the same protocol, page and limits as ``fastdigit serve``.

    Parameters
    ----------
    options
        Names of :class:`fastdigit.serve.Settings`, and ``num_replicas`` (processes, 1 by default,
        or "auto"), ``num_cpus`` of each (1 by default) and ``max_ongoing_requests`` of each.
        Text is converted, as Ray's command line and configuration files need it; ``models`` is a
        mapping from names to paths, which every node must have.

    Returns
    -------
    ray.serve.Application
        For ``serve.run``.

    Raises
    ------
    MissingExtraError
        Ray Serve, or what the server needs, is not installed.
    TypeError
        An option is unknown.
    ValueError
        An option has a value that is out of range.

    Notes
    -----
    Requests that a replica has at the same time are run in one batch, by the server's own queue,
    which knows the words of Triton's dynamic batching. ``@serve.batch`` would do the same less
    well: it waits for a batch to fill, up to a timeout, and cannot split a request.

    A replica that dies is replaced, and requests that it had fail with status 500, or are sent
    again by clients: answers have no side effects.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise MissingExtraError(
            f"Ray Serve is not installed: {pip_install('serve', 'ray')}"
        ) from error
    require_extra()
    rest = dict(options or {})
    replicas = rest.pop("num_replicas", 1)
    cpus = float(rest.pop("num_cpus", 1))
    ongoing = int(rest.pop("max_ongoing_requests", MAX_ONGOING_REQUESTS))
    settings = _settings(rest)

    def build() -> Any:
        return create_app(settings)

    # A function, called in each replica: an application holds a model and a queue.
    deployment = serve.deployment(
        name="fastdigit",
        num_replicas=replicas if replicas == "auto" else int(replicas),
        max_ongoing_requests=ongoing,
        ray_actor_options={"num_cpus": cpus},
    )(serve.ingress(build)())
    return deployment.bind()


def _settings(options: Mapping[str, Any]) -> Settings:
    """Settings from options whose values may be text."""
    known = {field.name: field.default for field in fields(Settings)}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(
            f"unknown options {', '.join(unknown)}; there are {', '.join(known)}, "
            "num_replicas, num_cpus and max_ongoing_requests"
        )
    return Settings(**{name: _converted(value, known[name]) for name, value in options.items()})


def _converted(value: Any, default: Any) -> Any:
    """Text as the type of the default, if that is a number."""
    return type(default)(value) if isinstance(default, int | float) else value
