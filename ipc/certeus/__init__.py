"""certeus: append events to the ledger of this host, and learn when they are durable.

```python
import certeus

with certeus.connect(source="checkout") as producer:
    ticket = producer.append("payment", {"amount": 1500, "currency": "USD"}, id="o-17")
    producer.wait_durable(ticket, timeout=1.0)
    print(producer.receipt(ticket).seq)
```
"""

from certeus.aio import AsyncProducer, connect_async
from certeus.core import Statistics
from certeus.errors import (
    ClosedError,
    ConnectError,
    Error,
    ForkedError,
    InDoubtError,
    RejectedError,
    Rejection,
    RingFullError,
)
from certeus.event import Event
from certeus.producer import Producer, connect
from certeus.receipts import Receipt, Verdict

__all__ = [
    "AsyncProducer",
    "ClosedError",
    "ConnectError",
    "Error",
    "Event",
    "ForkedError",
    "InDoubtError",
    "Producer",
    "Receipt",
    "RejectedError",
    "Rejection",
    "RingFullError",
    "Statistics",
    "Verdict",
    "connect",
    "connect_async",
]
