"""Floor 3: the language.  Runs the user's code, and owns everything that code touches."""
