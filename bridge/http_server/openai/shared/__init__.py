"""What the endpoints of OpenAI's API share, each module for itself: this package has no face."""
