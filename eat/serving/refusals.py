"""What the server refuses: a status and a sentence."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not answered. status: of HTTP. retry: seconds after which it may be tried again."""

    def __init__(self, status: int, sentence: str, retry: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry = retry


def body_too_large(limit: int) -> Refused:
    """413."""
    return Refused(413, f"The body has more than {limit} bytes; send fewer texts in a request.")


def not_json(reason: str) -> Refused:
    """400."""
    return Refused(400, f'The body is not JSON ({reason}); send {{"texts": ["a text"]}}.')


def wrong_form(reason: str) -> Refused:
    """422."""
    return Refused(422, f'{reason}; send {{"texts": ["a text"]}}, or two-element lists for pairs.')


def queue_full(limit: int) -> Refused:
    """429."""
    return Refused(429, f"The queue of {limit} texts has no room for this request; send it again later.", retry=1)


def too_late(seconds: float) -> Refused:
    """503."""
    return Refused(503, f"There was no answer within {seconds:g} seconds; send it again later.", retry=1)


def draining() -> Refused:
    """503."""
    return Refused(503, "The server is about to end and takes no more requests; send it again.", retry=1)
