"""A stand-in for the CLI that speaks its control protocol, and misbehaves as it is told to.

Run as a program: `fake_cli.py [JSON]`, where the JSON object says how, by subtype of request:

    silent      subtypes that are never answered
    refuse      subtypes that are answered with an error, with the error's text
    answers     what a subtype is answered with
    late        a subtype whose answer is held back until the next request of any kind
    raw         what is written on a request of this subtype, before its answer: texts as they
                stand, each with how many times
    start       a text that is written before anything else
    die         subtypes on which it ends without a word, with exit code 9
    turn        the lines written on a user line that is to be answered
    flood       a user line is answered without end
    log         a file that everything it is sent is appended to

Everything that it is sent also comes back as `{"type": "seen", "line": …}`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def write(line: object) -> None:
    write_raw(json.dumps(line) + "\n")


def write_raw(text: str) -> None:
    data = text.encode()
    while data:
        data = data[os.write(1, data) :]


def main() -> None:
    how: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    write_raw(how.get("start", ""))
    held_back: list[object] = []
    for text in sys.stdin:
        line = json.loads(text)
        write({"type": "seen", "line": line})
        if "log" in how:
            with open(how["log"], "a") as log:
                log.write(text)
        if line["type"] == "user":
            if line.get("shouldQuery") is False:
                write({"type": "result", "num_turns": 0})
                continue
            while how.get("flood"):
                write({"type": "stream_event", "event": {"type": "ping"}})
            for answer in how.get("turn", ()):
                write(answer)
        if line["type"] != "control_request":
            continue
        subtype = line["request"]["subtype"]
        if subtype in how.get("die", ()):
            sys.stderr.write("a last word\n")
            sys.stderr.flush()
            os._exit(9)
        if subtype in how.get("raw", {}):
            for piece, times in how["raw"][subtype]:
                write_raw(piece * times)
        for answer in held_back:
            write(answer)
        held_back.clear()
        response: dict[str, Any] = {"request_id": line["request_id"]}
        if subtype in how.get("refuse", {}):
            response |= {"subtype": "error", "error": how["refuse"][subtype]}
        else:
            answer = how.get("answers", {}).get(subtype, {"asked": subtype})
            response |= {"subtype": "success", "response": answer}
        message = {"type": "control_response", "response": response}
        if subtype == how.get("late"):
            held_back.append(message)
        elif subtype not in how.get("silent", ()):
            write(message)


if __name__ == "__main__":
    main()
