"""What every app shares and what knows none of them: state machines, claims, ids, errors, text, paging."""
