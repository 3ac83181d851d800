"""certeus-bench: measures certeus, its floors and its peers, and checks what it measured."""
