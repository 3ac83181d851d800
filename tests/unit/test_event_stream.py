"""The client of the api's stream: what it takes for silence, and what it shows on a terminal."""

import json
import socket
import threading
from pathlib import Path

import pytest

from certeusd.cli import event_stream
from certeusd.cli.event_stream import EventStream
from certeusd.cli.tap_lines import Lines

HEAD = b"HTTP/1.0 200 OK\r\n\r\n"


def test_who_takes_its_time_is_no_api_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = list[socket.socket]()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "api.sock"))
        listener.listen()

        def answer() -> None:
            end, _ = listener.accept()
            ends.append(end)
            end.sendall(HEAD + b"id: 1\ndata: 1\n\n")

        thread = threading.Thread(target=answer)
        thread.start()
        stream = EventStream(tmp_path / "api.sock", {}, lambda _: None, forever=False)
        blocks = stream.blocks(lambda: None)
        first = next(blocks)
        assert first is not None
        thread.join()
        ends[0].sendall(b"id: 2\ndata: 2\n\n")
        monkeypatch.setattr(event_stream, "SILENT_S", 0.0)
        second = next(blocks)
        assert second is not None
        assert (first.data, second.data) == (b"1", b"2")
        blocks.close()
        ends[0].close()


def test_whole_events_cannot_steer_a_terminal() -> None:
    data = '{"seq": 1, "source": "\x9b31m\x7f\u202e\U000e0041",\t"data": {"a":\t"\u00e9"}}'
    shown = Lines(whole=True, width=80).line(data.encode())
    assert json.loads(shown) == {"schema_version": 1, **json.loads(data)}
    assert shown.decode().replace("\t", "").strip().isprintable()
    assert Lines(whole=True, width=None).line(data.encode()).endswith(data[1:].encode() + b"\n")
