"""How a trial reaches a machine; nothing of science in it."""
