"""A stand-in for the CLI that speaks its control protocol, and misbehaves as configured.

Run as a program: `fake_cli.py [JSON]`, where the JSON object says how, by subtype of request:

    silent      subtypes that are never answered
    refuse      subtypes that are answered with an error, with the error's text
    answers     what a subtype is answered with
    late        a subtype whose answer is held back until the next request of any kind
    raw         what is written on a request of this subtype, before its answer: texts as they
                stand, each with how many times
    start       a text that is written before anything else
    die         subtypes on which it ends, with exit code 9
    last_words  what it writes to stderr then
    last        a subtype that it still answers, and then ends
    deaf        subtypes after which it reads no more of its input
    turn        the lines written on a user line that is to be answered; one without a `type` is
                something to do instead, see `do`
    obedient    an interrupt ends the turn that is open
    flood       a user line is answered without end
    log         a file that everything it is sent is appended to
    numbers     a folder in which the processes are numbered as they start, from 0
    sound       a list of the numbers, or a file: these, or all once the file is there, do nothing
                of `silent`, `die`, `last`, `deaf` and `raw`, and answer with `well` for `turn`
    well        see `sound`

Everything that it is sent also comes back as `{"type": "seen", "line": …}`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

FAULTS = ("silent", "die", "last", "deaf", "raw")


def write(line: object) -> None:
    write_raw(json.dumps(line) + "\n")


def write_raw(text: str, to: int = 1) -> None:
    data = text.encode()
    while data:
        data = data[os.write(to, data) :]


def do(what: dict[str, Any], kept: list[bytearray]) -> None:
    """Do something else than to write a line."""
    if "raw" in what:
        write_raw(what["raw"] * what.get("times", 1))
    if "stderr" in what:
        write_raw(what["stderr"] * what.get("times", 1), to=2)
    if "grow" in what:
        # Written to, so that the memory is really taken.
        kept.append(bytearray(b"x" * what["grow"]))
    if what.get("close"):
        # Its output ends, and it does not.
        os.close(1)
        time.sleep(3600)
    if what.get("stop"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if what.get("die"):
        os._exit(9)


def number_of(folder: Path) -> int:
    """Which of the processes that share a folder this is."""
    number = 0
    while True:
        try:
            (folder / str(number)).open("x").close()
        except FileExistsError:
            number += 1
        else:
            return number


def made_sound(how: dict[str, Any]) -> dict[str, Any]:
    """What this process does, if some are to be sound."""
    sound = how.get("sound")
    if sound is None:
        return how
    if isinstance(sound, str):
        is_sound = Path(sound).exists()
    else:
        is_sound = number_of(Path(how["numbers"])) in sound
    if not is_sound:
        return how
    kept = {name: value for name, value in how.items() if name not in FAULTS}
    return {**kept, "turn": how.get("well", ())}


class FakeCli:
    """One run of it."""

    def __init__(self, how: dict[str, Any]) -> None:
        self.how = how
        self.held_back: list[object] = []
        self.kept: list[bytearray] = []
        self.open_turn = False

    def run(self) -> None:
        write_raw(self.how.get("start", ""))
        for text in sys.stdin:
            line = json.loads(text)
            write({"type": "seen", "line": line})
            if "log" in self.how:
                with open(self.how["log"], "a") as log:
                    log.write(text)
            if line["type"] == "user":
                self.user(line)
            elif line["type"] == "control_request":
                self.control(line["request_id"], line["request"]["subtype"])

    def user(self, line: dict[str, Any]) -> None:
        if line.get("shouldQuery") is False:
            write({"type": "result", "num_turns": 0})
            return
        while self.how.get("flood"):
            write({"type": "stream_event", "event": {"type": "ping"}})
        self.open_turn = True
        for answer in self.how.get("turn", ()):
            if "type" in answer:
                self.open_turn = self.open_turn and answer["type"] != "result"
                write(answer)
            else:
                do(answer, self.kept)

    def control(self, request_id: str, subtype: str) -> None:
        how = self.how
        if subtype in how.get("die", ()):
            sys.stderr.write(self.how.get("last_words", "a last word\n"))
            sys.stderr.flush()
            os._exit(9)
        for piece, times in how.get("raw", {}).get(subtype, ()):
            write_raw(piece * times)
        for answer in self.held_back:
            write(answer)
        self.held_back.clear()
        self.respond(request_id, subtype)
        if subtype == "interrupt" and self.open_turn and how.get("obedient"):
            self.open_turn = False
            write({"type": "result", "subtype": "error_during_execution"})
        if subtype == how.get("last"):
            os._exit(9)
        while subtype in how.get("deaf", ()):
            time.sleep(60)

    def respond(self, request_id: str, subtype: str) -> None:
        how = self.how
        response: dict[str, Any] = {"request_id": request_id}
        if subtype in how.get("refuse", {}):
            response |= {"subtype": "error", "error": how["refuse"][subtype]}
        else:
            answer = how.get("answers", {}).get(subtype, {"asked": subtype})
            response |= {"subtype": "success", "response": answer}
        message = {"type": "control_response", "response": response}
        if subtype == how.get("late"):
            self.held_back.append(message)
        elif subtype not in how.get("silent", ()):
            write(message)


def main() -> None:
    FakeCli(made_sound(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})).run()


if __name__ == "__main__":
    main()
