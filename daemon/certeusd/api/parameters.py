"""What the routes of the ledger take: parameters by name, and content types of bodies."""

from certeusd.openapi import Query

SEQ_MAX = 2**63 - 1
TEXT_LENGTH_MAX = 255
TIMEOUT_S_MAX = 3600
PAGE_EVENTS, PAGE_EVENTS_MAX = 1000, 100_000
WAITS = ("durable", "none")

CLOUDEVENT = "application/cloudevents+json"
CLOUDEVENTS = "application/cloudevents-batch+json"
NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
ANY = "*/*"
"""Any other is the data of one event, whose attributes are in headers `ce-*`."""
BODIES = (CLOUDEVENT, CLOUDEVENTS, NDJSON, ANY)

_TEXT: dict[str, object] = {"type": "string", "minLength": 1, "maxLength": TEXT_LENGTH_MAX}

ATTRIBUTES = ("type", "source", "id", "subject", "time", "dataschema")
APPEND = (
    *(Query(name, _TEXT) for name in ATTRIBUTES),
    Query("id_field", _TEXT),
    Query("subject_field", _TEXT),
    Query("wait", {"enum": list(WAITS)}),
    Query("timeout_s", {"type": "number", "minimum": 0, "maximum": TIMEOUT_S_MAX}),
)
"""Of events without attributes of their own, and for how long to wait for verdicts."""
READ = (
    Query("after_seq", {"type": "integer", "minimum": 0, "maximum": SEQ_MAX}),
    Query("type", _TEXT),
    Query("source", _TEXT),
    Query("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_EVENTS_MAX}),
)
FORMS = ("numbers", "page")
LIVE = (
    Query("form", {"enum": list(FORMS)}),
    Query("limit", {"type": "integer", "minimum": 1, "maximum": SEQ_MAX}),
)
"""`page`: the texts of the status page instead of numbers; `limit`: how many moments."""
