"""What administrators may do: groups whose content stands here and only here.

Administrators of a hospital look after its people. Which model answers concerns all hospitals: that is a right of its
own, which a superuser gives to single administrators.
"""

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

MODEL_MANAGERS = "Model managers"
# The permission's app and name; ``ml.registry.may_promote`` asks for it.
CHANGE_THE_MODEL = ("ml", "promote_modelversion")


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
    if not is_administrator:
        user.groups.remove(*Group.objects.filter(name=MODEL_MANAGERS))


@transaction.atomic
def let_change_the_model(user: User) -> bool:
    """Give an administrator the right to change which model answers; return False for whoever has it already.

    Raises ``ValueError`` for somebody who is no administrator.
    """
    if user.role != Role.ADMINISTRATOR:
        raise ValueError(f"Only administrators change the model in use. Received: role={user.role}")
    if user.has_perm(".".join(CHANGE_THE_MODEL)):
        return False
    app, codename = CHANGE_THE_MODEL
    group, _created = Group.objects.get_or_create(name=MODEL_MANAGERS)
    group.permissions.set(Permission.objects.filter(content_type__app_label=app, codename=codename))
    user.groups.add(group)
    return True


def let_change_the_model_no_more(user: User) -> bool:
    """Take the right away again; return False for whoever did not have it by being given it."""
    groups = user.groups.filter(name=MODEL_MANAGERS)
    has_had = groups.exists()
    user.groups.remove(*groups)
    return has_had


@transaction.atomic
def create_roles() -> int:
    """Create the group and put exactly the administrators into it. Returns how many there are."""
    group = sync_administrators_group()
    administrators = User.objects.filter(role=Role.ADMINISTRATOR, is_superuser=False)
    administrators.filter(is_staff=False).update(is_staff=True)
    group.user_set.set(administrators)
    return administrators.count()
