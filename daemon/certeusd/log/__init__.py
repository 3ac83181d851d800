"""The durable log: its writer process, and the reader that followers use."""
