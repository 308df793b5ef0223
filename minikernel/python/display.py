"""What objects look like: mime bundles, `display`, and the hook that shows a cell's value.

An object says how it looks by the methods that IPython made the custom: ``_ipython_display_`` does it all
itself, ``_repr_mimebundle_`` gives a bundle, ``_repr_html_`` and its kin one form each.  What an object does
not say, `formatters` may: a function by type, or by ``"module.Class"`` for a type that is not imported yet.
There is always a text/plain.  None of it needs IPython ("Messaging in Jupyter: Display data").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import __builtins__ as __builtins__
from ..kernel import interrupt
from ..kernel.request import Request, current_request
from ..protocol import log

Bundle = dict[str, Any]

#: Functions that take an object and return a mime bundle, or a bundle and its metadata, or None.
formatters: dict[type | str, Callable[[Any], Any]] = {}

_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_gif_": "image/gif",
    "_repr_pdf_": "application/pdf",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
    "_repr_javascript_": "application/javascript",
}
#: Who has this has everything: its answers mean nothing.
_CANARY = "_ipython_canary_method_should_not_exist_"
#: IPython's formatters, and what IPython's display goes through, when there is a shell (``shell``).
formatter: Callable[[Any, Any, Any], tuple[Bundle, Bundle]] | None = None
publisher: Callable[..., object] | None = None
#: Sets `formatter`, where IPython is installed: it prints some things otherwise than `repr`.
make_formatter: Callable[[], object] | None = None

#: Types that are their repr and nothing else; most values are one of these.
_ATOMS = frozenset((int, float, complex, bool, str, bytes, range, type(None)))
_SETS = (set, frozenset)
_PLAIN = _ATOMS | {list, tuple, dict, set, frozenset}
#: Values that Out keeps.
CACHE_SIZE = 1000
#: How often output has been cleared.
cleared = 0


def bundle(obj: Any, include: Any = None, exclude: Any = None) -> tuple[Bundle, Bundle]:
    """Return the mime bundle of an object and its metadata.

    Parameters
    ----------
    obj : object
    include, exclude : collection of str, optional
        Mime types to keep, or to leave out.

    Raises
    ------
    Exception
        What the object's ``__repr__`` raises.  Another method that raises is shown on stderr, and the
        bundle goes without what it would have given.
    """
    data: Bundle = {}
    metadata: Bundle = {}
    found = _registered(type(obj))
    if found is not None:
        _add(_try(found, obj), data, metadata)
    if formatter is not None:
        more, more_metadata = formatter(obj, include, exclude)
        return more | data, more_metadata | metadata
    if type(obj) not in _PLAIN and not isinstance(obj, type) and not interrupt.call(hasattr, obj, _CANARY):
        method = interrupt.call(getattr, obj, "_repr_mimebundle_", None)
        if callable(method):
            _add(_try(method, include=include, exclude=exclude), data, metadata)
        for name, mime in _METHODS.items():
            method = interrupt.call(getattr, obj, name, None) if mime not in data else None
            if callable(method):
                value = _try(method)
                if isinstance(value, tuple) and len(value) == 2:
                    value, metadata[mime] = value
                if value is not None:
                    data[mime] = value
    if "text/plain" not in data:
        data["text/plain"] = _text(obj)
    if include is not None:
        data = {mime: value for mime, value in data.items() if mime in include}
    if exclude is not None:
        data = {mime: value for mime, value in data.items() if mime not in exclude}
    return data, {mime: value for mime, value in metadata.items() if mime in data or "/" not in mime}


def _text(obj: Any) -> str:
    if type(obj) in _ATOMS:
        return repr(obj)
    if make_formatter is not None:
        if _is_its_repr(obj):
            return str(interrupt.call(repr, obj))
        try:
            make_formatter()
        except Exception as error:  # an IPython that can't be imported, or whose import was interrupted
            log.complain("IPython is of no use", repr(error))
        if formatter is not None:
            return str(formatter(obj, {"text/plain"}, None)[0]["text/plain"])
    from .pretty import text

    return text(obj)


def _is_its_repr(obj: Any) -> bool:
    """Tell whether IPython prints an object as `repr` does, so that it need not be loaded for it."""
    if hasattr(type(obj), "_repr_pretty_") or type(obj).__module__ == "collections":
        return False
    if isinstance(obj, (list, tuple, dict, set, frozenset)) and len(obj) > (1 if isinstance(obj, _SETS) else 25):
        return False
    text: str = interrupt.call(repr, obj)
    if type(obj) in _PLAIN:  # broken at 79 columns; and what is in it may be one of the others
        return len(text) < 80 and "<" not in text
    return not text.startswith("<")  # functions, classes, and what has no repr of its own


def _registered(kind: type) -> Callable[[Any], Any] | None:
    if not formatters:
        return None
    for base in kind.__mro__:
        for key in (base, f"{base.__module__}.{base.__qualname__}"):
            if key in formatters:
                return formatters[key]
    return None


def _try(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return interrupt.call(method, *args, **kwargs)
    except NotImplementedError:
        return None
    except Exception:
        import traceback

        traceback.print_exc()
        return None


def _add(value: Any, data: Bundle, metadata: Bundle) -> None:
    if isinstance(value, tuple) and len(value) == 2:
        value, more = value
        metadata.update(more or {})
    if value is not None:
        data.update(value)


class DisplayHandle:
    """Something displayed that can be changed: ``handle = display(obj, display_id=True)``."""

    def __init__(self, display_id: str) -> None:
        self.display_id = display_id

    def display(self, obj: Any, **kwargs: Any) -> None:
        """Display another object under the same id."""
        display(obj, display_id=self.display_id, **kwargs)

    def update(self, obj: Any, **kwargs: Any) -> None:
        """Show this object instead, wherever the id is shown."""
        update_display(obj, display_id=self.display_id, **kwargs)

    def __repr__(self) -> str:
        return f"<DisplayHandle display_id={self.display_id}>"


def display(
    *objs: Any,
    include: Any = None,
    exclude: Any = None,
    metadata: Bundle | None = None,
    transient: Bundle | None = None,
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,
    update: bool = False,
) -> DisplayHandle | None:
    """Display objects in the output of the cell that the calling code works for.  Any thread.

    Parameters
    ----------
    *objs : object
    include, exclude : collection of str, optional
        Mime types to keep, or to leave out.
    metadata : dict, optional
        By mime type.
    transient : dict, optional
        For frontends, not for the notebook's file.
    display_id : str or True, optional
        A name under which `update_display` can change it; True makes one.
    raw : bool
        The objects are mime bundles already.
    clear : bool
        Replace what the cell has shown.
    update : bool
        Change what is shown under `display_id` instead of showing it again.

    Returns
    -------
    DisplayHandle or None
        A handle when there is a `display_id`.

    Raises
    ------
    TypeError, ValueError
        A bundle holds what can't be said in JSON; or an update without `display_id`.
    """
    if display_id is True:
        import os

        display_id = os.urandom(16).hex()
    if update and not display_id:
        raise TypeError("update needs a display_id")
    transient = dict(transient or {})
    if display_id:
        transient["display_id"] = display_id
    if clear:
        clear_output(wait=True)
    for obj in objs:
        if not raw and _displays_itself(obj):
            continue
        data, more = (obj, {}) if raw else bundle(obj, include, exclude)
        if data and publisher is not None:
            publisher(data=data, metadata=more | (metadata or {}), transient=transient, update=update)
        elif data:
            publish(data, more | (metadata or {}), transient, update)
    _checkpoint()
    return DisplayHandle(str(display_id)) if display_id else None


def publish(data: Bundle, metadata: Bundle, transient: Bundle, update: bool) -> None:
    """Send a mime bundle as an output of the current request."""
    request = current_request()
    if request is None:
        print(data.get("text/plain", data))
    else:
        content = {"data": data, "metadata": metadata, "transient": transient}
        request.publish("update_display_data" if update else "display_data", content)


def update_display(obj: Any, *, display_id: str, **kwargs: Any) -> None:
    """Show `obj` wherever `display_id` is shown."""
    display(obj, display_id=display_id, update=True, **kwargs)


def clear_output(wait: bool = False) -> None:
    """Take away what the cell has shown; with `wait`, when it shows the next thing."""
    global cleared
    cleared += 1
    request = current_request()
    if request is not None:
        request.publish("clear_output", {"wait": bool(wait)})
    _checkpoint()


def _checkpoint() -> None:
    if interrupt.pending:
        interrupt.checkpoint()


def _displays_itself(obj: Any) -> bool:
    if formatter is not None:  # it looks after that
        return False
    if type(obj) in _PLAIN or isinstance(obj, type) or interrupt.call(hasattr, obj, _CANARY):
        return False
    method = interrupt.call(getattr, obj, "_ipython_display_", None)
    if not callable(method):
        return False
    try:
        interrupt.call(method)
    except NotImplementedError:
        return False
    return True


class DisplayHook:
    """`sys.displayhook`: shows the value of a cell and keeps it as ``_`` and ``Out[n]``."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._last = id("")

    def __call__(self, value: Any) -> None:
        request = current_request()
        if value is None or request is None or request.content.get("silent"):
            return
        if _displays_itself(value):
            self._keep(request, value)
            return
        data, metadata = bundle(value)
        self._keep(request, value)
        if not data:  # it has displayed itself after all
            return
        count = request.execution_count
        request.publish("execute_result", {"execution_count": count, "data": data, "metadata": metadata})
        if request.stored:
            request.kernel.history.add_output(count, str(data.get("text/plain", "")))

    def _keep(self, request: Request, value: Any) -> None:
        names, count = self._namespace, request.execution_count
        if not request.stored or value is names.get("_oh"):  # which would hold itself
            return
        if id(names.get("_", value)) in (self._last, id(value)):  # else the user has taken the name
            names["___"], names["__"], names["_"] = names.get("__"), names.get("_"), value
            self._last = id(value)
        outputs = names.get("_oh")
        if isinstance(outputs, dict):
            outputs[count] = value
            names[f"_{count}"] = value
            if len(outputs) > CACHE_SIZE:
                oldest = next(iter(outputs))
                del outputs[oldest]
                names.pop(f"_{oldest}", None)
