"""Callables: their names, their references as text, and whether arguments fit them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from inspect import CO_COROUTINE, CO_VARARGS, iscoroutinefunction, signature
from sys import modules
from types import FunctionType, MethodType, ModuleType
from typing import Any


def bound_instance(func: Any) -> Any:
    """Give the instance that a method is bound to; None for what is no method of an instance."""
    owner = getattr(func, "__self__", None)
    return None if isinstance(owner, (type, ModuleType)) else owner


def get_callable_name(func: Any) -> str:
    """Name a callable for people: the qualified name of a function, the class of an instance.

    Raises TypeError for what can't be called.
    """
    if type(func) is FunctionType:
        return func.__qualname__
    if isinstance(func, partial):
        return get_callable_name(func.func)
    bound_to = getattr(func, "__self__", None)
    if bound_to is not None and hasattr(func, "__name__"):
        owner = bound_to if isinstance(bound_to, type) else type(bound_to)
        if owner.__module__ != "builtins":
            return f"{owner.__qualname__}.{func.__name__}"
    name = getattr(func, "__qualname__", None) or getattr(func, "__name__", None)
    if isinstance(name, str):
        return name
    if callable(func):
        return type(func).__qualname__
    raise TypeError(f"func: {func!r} can't be called")


def obj_to_ref(obj: Any) -> str:
    """Give the text ``module:qualified.name`` from which `ref_to_obj` finds the object again.

    Raises ValueError, with what to do, for what has no such name: a lambda, a nested function,
    a partial, an instance.
    """
    name: Any
    module: Any
    if type(obj) is FunctionType:
        # What the rest would find of nearly all functions, at a quarter of its cost.
        module, name = obj.__module__, obj.__qualname__
        found = modules.get(module)
        if type(found) is ModuleType and found.__dict__.get(name) is obj:
            return f"{module}:{name}"
    if isinstance(obj, partial):
        raise ValueError(f"{obj!r} is a partial: give the function itself, and args and kwargs")
    name = getattr(obj, "__qualname__", None)
    bound_to = getattr(obj, "__self__", None)
    module = getattr(obj, "__module__", None)
    if bound_to is not None and not isinstance(bound_to, ModuleType):
        owner = bound_to if isinstance(bound_to, type) else type(bound_to)
        module, name = owner.__module__, f"{owner.__qualname__}.{obj.__name__}"
    if not isinstance(name, str) or not isinstance(module, str):
        raise ValueError(f"{obj!r} has no name: schedule a function of a module")
    if "<lambda>" in name:
        raise ValueError(f"{obj!r} is a lambda: give it a name in a module with def")
    if "<locals>" in name:
        raise ValueError(f"{obj!r} is defined inside a function: move it to the top of its module")
    reference = f"{module}:{name}"
    try:
        found = ref_to_obj(reference)
    except (LookupError, ValueError) as error:
        raise ValueError(f"{obj!r} can't be found again by its name {reference!r}") from error
    expected = getattr(obj, "__func__", obj)
    if getattr(found, "__func__", found) is not expected and found != obj:
        raise ValueError(
            f"{obj!r} can't be found again: the name {reference!r} belongs to {found!r}"
        )
    return reference


class Restricted(str):
    """A reference that leads to callables of some modules and their submodules only."""

    __slots__ = ("modules",)

    modules: frozenset[str]

    def __new__(cls, reference: str, modules: frozenset[str]) -> Restricted:
        """Check the reference's module; ValueError if it is none of these. Imports nothing."""
        self = super().__new__(cls, reference)
        self.modules = modules
        self.check(reference.partition(":")[0])
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Restricted, (str(self), self.modules)

    def check(self, module: object) -> None:
        """Refuse a module that is not allowed, by ValueError."""
        parts = module.split(".") if isinstance(module, str) else []
        if not any(".".join(parts[:n]) in self.modules for n in range(1, len(parts) + 1)):
            belongs = f"{str(self)!r} leads to {'no module' if module is None else repr(module)}"
            raise ValueError(
                f"func: {belongs}, which allowed_modules does not name; it has"
                f" {', '.join(sorted(self.modules))}"
            )


def ref_to_obj(ref: str) -> Any:
    """Import the object of a reference ``module:qualified.name``.

    Raises TypeError for what is no text, ValueError for one without a colon and for a
    `Restricted` one that leads elsewhere, LookupError when the module or the name is not there.
    """
    if not isinstance(ref, str):
        raise TypeError(f"a reference is a text such as 'module:name', not {ref!r}")
    module_name, colon, path = ref.partition(":")
    if not colon or not module_name or not path:
        raise ValueError(f"invalid reference {ref!r}: it has the form 'module:name'")
    try:
        found: Any = import_module(module_name)
    except ImportError as error:
        raise LookupError(
            f"error resolving reference {ref}: could not import module {module_name!r}: {error}"
        ) from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise LookupError(
                f"error resolving reference {ref}: error looking up object {name!r}"
            ) from error
        if isinstance(ref, Restricted) and isinstance(found, ModuleType):
            raise ValueError(
                f"func: {str(ref)!r} goes through the module {found.__name__!r}; write the module"
                " before the colon, and the callable after it"
            )
    if isinstance(ref, Restricted):
        ref.check(getattr(found, "__module__", None))
    return found


def maybe_ref(value: Any) -> Any:
    """Import what a text refers to; give anything else back as it is."""
    return ref_to_obj(value) if isinstance(value, str) else value


def runs_coroutine(func: Any) -> bool:
    """Tell whether calling a callable gives a coroutine: an ``async def``, however wrapped."""
    plain = func.__func__ if type(func) is MethodType else func
    if type(plain) is FunctionType:
        # What `iscoroutinefunction` would find out, at a tenth of its cost.
        if plain.__code__.co_flags & CO_COROUTINE:
            return True
        if not plain.__dict__:  # where a mark would be
            return False
    while isinstance(func, partial):
        func = func.func
    return iscoroutinefunction(func) or iscoroutinefunction(getattr(func, "__call__", None))  # noqa: B004


def check_arguments(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Refuse arguments that the callable would refuse.

    Raises ValueError that names the argument. Callables without a signature pass.
    """
    plain: Any = func
    given = len(args)
    if type(func) is MethodType:
        plain = func.__func__
        given += 1
    if type(plain) is FunctionType and not kwargs:
        # What `signature` would say of nearly all jobs, at a hundredth of its cost.
        code = plain.__code__
        most = code.co_argcount
        least = most - len(plain.__defaults__ or ())
        required = code.co_kwonlyargcount > len(plain.__kwdefaults__ or ())
        unlimited = code.co_flags & CO_VARARGS
        if least <= given and (given <= most or unlimited) and not required:
            return
    try:
        accepted = signature(func, follow_wrapped=False)
    except (ValueError, TypeError):  # some built-ins have no signature
        return
    try:
        accepted.bind(*args, **kwargs)
    except TypeError as error:
        name = get_callable_name(func)
        raise ValueError(
            f"{name}: the job's arguments do not fit: {error}; it takes {accepted}"
        ) from None
