"""What changes sessions and turns, a module per subject: turns, dispatch, settle, abort, sweep."""
