"""A chat template is foreign code: it stays in its sandbox and within its limits."""

from __future__ import annotations

import time

import pytest

from training.engine.errors import DataError, ModelError
from training.engine.models.chat_template import MAX_OUTPUT, ChatTemplate

MESSAGES = [{"role": "user", "content": "a%b {x} 100000000d"}, {"role": "assistant", "content": "c"}]

ENDLESS = [
    "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
    "{{ 'x' * 10000000000 }}",
    "{{ 10 ** 10000000 }}",
    "{{ [1] * 10000000000 }}",
    "{{ 'x'.ljust(10000000000) }}",
    "{{ 'x'|center(10000000000) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%*d' % (999999999, 1) }}",
    "{{ '%999999999d'|format(1) }}",
    "{{ '{:999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 999999999) }}",
    "{% set n = namespace(x='x') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x='x') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x='x') %}{% for a in range(99) %}{% set n.x = [n.x, n.x]|join %}{% endfor %}",
    "{% set n = namespace(x='xx') %}{% for a in range(99) %}{% set n.x = n.x.replace('x', n.x) %}{% endfor %}",
    "{% set n = namespace(x='xx') %}{% for a in range(99) %}{% set n.x = n.x|replace('x', n.x) %}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% macro a(n) %}{% if n %}{{ a(n - 1) }}{{ a(n - 1) }}{% endif %}{% endmacro %}{{ a(60) }}",
]
ESCAPES = [
    "{{ ''.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.append(1) }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{% include 'x' %}",
    "{{ namespace(__class__=1) }}",
    "{{ lipsum(1) }}",
]


@pytest.mark.parametrize("source", ENDLESS)
def test_a_limit_ends_it_soon(source: str) -> None:
    started = time.monotonic()
    with pytest.raises(ModelError) as error:
        ChatTemplate(source).render(MESSAGES)
    assert error.value.code == "model.chat_template_limit"
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("source", ESCAPES)
def test_nothing_leaves_the_sandbox(source: str) -> None:
    with pytest.raises(DataError):
        ChatTemplate(source).render(list(MESSAGES))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}{{ loop.index0 }}{{ loop.length }}{{ loop.last }}{% endfor %}", "02False12True"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", MESSAGES[0]["content"]),
        (
            "{% for m in messages[::-1] %}{{ m.role }}{% if loop.first %}{% continue %}{% endif %},{% endfor %}",
            "assistantuser,",
        ),
        ("{% for k, v in messages[0].items() %}{{ k }} {% endfor %}", "role content "),
        ("{{ messages[1]|tojson }}", '{"role": "assistant", "content": "c"}'),
        ("{{ '%s-%03d' % ('a', 7) }}{{ '<'|tojson }}", 'a-007"<"'),
        ("{% generation %}x{{ messages|length }}{% endgeneration %}", "x2"),
        ("{% set n = namespace() %}\n{% for _ in messages %}\n{% set n.x=loop.index %}\n{% endfor %}\n{{ n.x }}", "2"),
        ("{% for x in nothing %}{% else %}none{% endfor %}", "none"),
        ("{{ strftime_now('%Y')|length }}", "4"),
        ("{{ messages[0].content.split('%')[0].strip() }}", "a"),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(1) + m('y') }}", "[1][y]"),
    ],
)
def test_ordinary_templates_work(source: str, text: str) -> None:
    assert ChatTemplate(source).render(MESSAGES) == text


def test_the_longest_output_is_bounded() -> None:
    with pytest.raises(ModelError, match="16 MiB"):
        ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}").render([{"content": "x" * 4096}] * 5000)
    assert MAX_OUTPUT == 16 << 20
