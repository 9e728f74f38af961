"""What a run leaves in its folder, and how it survives being stopped, moved and watched."""
