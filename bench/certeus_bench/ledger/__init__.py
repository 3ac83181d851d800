"""certeus itself: from an append until it is durable, until it is a row, and what that costs."""
