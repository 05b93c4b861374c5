"""The downstream tasks behind one contract: ``TASKS[name](**settings).run(...) -> Results``."""
