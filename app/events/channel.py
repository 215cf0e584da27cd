"""Where dispatchers hear of events that they may claim."""

# With the environment as payload.
CHANNEL = "doorbell_events"
