"""Every refusal of the API in one shape: ``{"errors": [{"loc", "code", "message", "hint"}]}``."""

from __future__ import annotations

import json
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser

from mlxplatform.api_auth import Unauthorized
from mlxplatform.core.errors import DomainError
from training.engine.config.training import problem
from training.engine.errors import EngineError, Problem

#: What is said where Django or ninja give only a status.
WORDS = {
    400: ("request.bad", "The request cannot be read.", "Check method, headers and body."),
    401: ("access.sign_in", "Nobody is signed in.", "Send 'Authorization: Bearer <token>', or sign in."),
    403: ("access.csrf", "The request's CSRF token is missing or wrong.", "Send X-CSRFToken, or use a bearer token."),
    404: ("not_found", "There is no such thing.", "Check the address; /api/docs lists all of them."),
    405: ("method.not_allowed", "This address does not know that method.", "See /api/docs."),
    413: ("body.too_large", "The request is too large.", "Send less."),
    415: ("body.content_type", "The body is not announced as JSON.", "Send 'Content-Type: application/json'."),
    429: ("too_much", "Too many requests.", "Wait a little."),
}


class BodyRefused(DomainError):  # noqa: N818 - named as its family in core.errors
    """The body is of another kind than JSON."""

    status = 415


class StrictParser(Parser):
    """JSON that says that it is JSON: a form of another site cannot pass for it."""

    def parse_body(self, request: HttpRequest) -> Any:
        """The decoded body. Raises BodyRefused, ValueError."""
        if request.content_type != "application/json":
            raise BodyRefused(*WORDS[415])
        body = json.loads(request.body, parse_constant=_no_constant)
        if b"\\u" in request.body:
            _text(body)
        return body


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _text(value: Any) -> None:
    """Raise ValueError for half a surrogate pair, which JSON can spell and no database can keep."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a character at {error.object[error.start]!a}") from None


def answer(status: int, problems: list[Problem] | None = None) -> HttpResponse:
    """The response of a refusal."""
    if problems is None:
        problems = [Problem((), *WORDS.get(status, WORDS[400]))]
    response = JsonResponse({"errors": [p.as_dict() for p in problems]}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response


def install(api: NinjaAPI) -> None:
    """Give ``api`` the handlers of all errors that may come out of an operation."""

    @api.exception_handler(DomainError)
    def domain(request: HttpRequest, error: DomainError) -> HttpResponse:
        return answer(error.status, error.problems)

    @api.exception_handler(EngineError)
    def engine(request: HttpRequest, error: EngineError) -> HttpResponse:
        return answer(422, error.problems or [Problem((), error.code, error.message, error.hint)])

    @api.exception_handler(ValidationError)
    def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
        return answer(422, [_problem(e) for e in error.errors])

    @api.exception_handler(Http404)
    def missing(request: HttpRequest, error: Http404) -> HttpResponse:
        return answer(404)

    @api.exception_handler(AuthenticationError)
    def stranger(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
        return answer(401, Unauthorized(*WORDS[401]).problems)

    @api.exception_handler(HttpError)
    def http(request: HttpRequest, error: HttpError) -> HttpResponse:
        cause = error.__cause__
        if isinstance(cause, DomainError):
            return answer(cause.status, cause.problems)
        if error.status_code == 400 and isinstance(cause, ValueError | RecursionError):
            text = f"The body is no valid JSON: {str(cause)[:120]}."
            return answer(400, [Problem(("body",), "body.not_json", text, "Mend the body.")])
        return answer(error.status_code)


def _problem(error: Any) -> Problem:
    """A parameter's or a body field's problem, in the words of the settings' problems."""
    loc = tuple(error["loc"])
    # ninja puts "body" and the name of the function's argument before the field.
    short = loc[2:] if loc[:1] == ("body",) and len(loc) > 2 else loc
    return problem({"input": None, **error, "loc": short})
