"""Arithmetic in Python's notation: numbers, operators, a few functions, and nothing else.

The expression is parsed by Python's own `ast` and evaluated here, node by node; what is not in the tables below is
refused, and so is what would take long (`9**9**9`).

Above it: `actors.tools.example_tools`. Below it: the standard library.
"""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

LONGEST = 1000
"""Characters of an expression."""

MOST_BITS = 4096
"""Of a whole number."""

Number = int | float

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(math, name) for name in ("ceil", "cos", "exp", "floor", "log", "log10", "log2", "sin", "sqrt")},
    **{name: getattr(math, name) for name in ("acos", "asin", "atan", "degrees", "radians", "tan")},
    "abs": abs,
    "max": max,
    "min": min,
    "round": round,
}
_CONSTANTS = {"e": math.e, "pi": math.pi, "tau": math.tau}


def evaluate(expression: str) -> Number:
    """The value of an expression. Raises ValueError, in words for whoever wrote it."""
    if len(expression) > LONGEST:
        raise ValueError(f"an expression has {LONGEST} characters at most")
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body)
    except SyntaxError:
        raise ValueError("this is no arithmetic expression") from None
    except (ArithmeticError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=sign, operand=inner) if type(sign) in _UNARY:
            return _checked(_UNARY[type(sign)](_value(inner)))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _combined(type(sign), _value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _checked(_FUNCTIONS[name](*map(_value, arguments)))
    raise ValueError(f"{ast.unparse(node)[:50]!r} is no arithmetic")


def _combined(sign: type[ast.operator], left: Number, right: Number) -> Number:
    whole = isinstance(left, int) and isinstance(right, int)
    if sign is ast.Pow and whole and int(left).bit_length() * abs(right) > MOST_BITS:
        raise ValueError("the result would be too large")
    return _checked(_BINARY[sign](left, right))


def _checked(number: object) -> Number:
    if not isinstance(number, int | float):
        raise TypeError("the result is no real number")
    if not math.isfinite(number) or (isinstance(number, int) and number.bit_length() > MOST_BITS):
        raise ValueError("the result is too large")
    return number
