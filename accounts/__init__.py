"""People of the portal: users, hospitals, roles, sign-up and who looked at what. Imports no app of ours."""
