"""What an administrator of a hospital may do in the Django admin: a group whose content stands here and only here."""

from django.contrib.auth.models import Group, Permission
from django.db import transaction

from accounts.models import Role, User

ADMINISTRATORS = "Hospital administrators"
# Whose rows they are is decided in accounts/admin.py: those of the administrator's own hospital.
ADMINISTRATOR_PERMISSIONS = (
    "view_user",
    "add_user",
    "change_user",
    "view_hospital",
    "change_hospital",
    "view_accessevent",
    "view_emergencyaccess",
)


@transaction.atomic
def sync_administrators_group() -> Group:
    """Create the group or bring its permissions back to the list above; safe to run at any time.

    Raises ``RuntimeError`` before the database is migrated (the permissions do not exist yet).
    """
    wanted = Permission.objects.filter(content_type__app_label="accounts", codename__in=ADMINISTRATOR_PERMISSIONS)
    found = {permission.codename for permission in wanted}
    if missing := set(ADMINISTRATOR_PERMISSIONS) - found:
        raise RuntimeError(f"Migrate the database before creating roles. Received: no permission {sorted(missing)}.")
    group, _created = Group.objects.get_or_create(name=ADMINISTRATORS)
    group.permissions.set(wanted)
    return group


@transaction.atomic
def apply_role(user: User) -> None:
    """Bring staff flag and group of one stored person in line with the role: nobody keeps rights of one they left."""
    is_administrator = user.role == Role.ADMINISTRATOR
    if user.is_staff != is_administrator or (user.is_superuser and not is_administrator):
        user.is_staff = is_administrator
        user.is_superuser = user.is_superuser and is_administrator
        user.save(update_fields=["is_staff", "is_superuser"])
    group = sync_administrators_group()
    if is_administrator and not user.is_superuser:
        user.groups.add(group)
    else:
        user.groups.remove(group)


@transaction.atomic
def create_roles() -> int:
    """Create the group and put exactly the administrators into it. Returns how many there are."""
    group = sync_administrators_group()
    administrators = User.objects.filter(role=Role.ADMINISTRATOR, is_superuser=False)
    administrators.filter(is_staff=False).update(is_staff=True)
    group.user_set.set(administrators)
    return administrators.count()
