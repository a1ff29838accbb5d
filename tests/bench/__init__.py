"""The budgets of DESIGN.md, section 10, measured. Not tests: nothing here fails because a number is large."""
