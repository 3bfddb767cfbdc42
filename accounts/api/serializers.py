"""What bodies and answers of the API are made of."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers


class Body(serializers.Serializer):
    """A JSON body that is taken at its word.

    What it does not know is refused, because a misspelt field is a field that was meant; so is a number where there
    has to be text, which the framework would quietly turn into some.
    """

    def to_internal_value(self, data: Any) -> Any:
        """Return checked values. Raises ``ValidationError`` for unknown names and other kinds of values too."""
        if isinstance(data, Mapping):
            wrong = {
                str(name)[:80]: [_("This field is not known here. Please check its spelling.")]
                for name in data
                if name not in self.fields
            } | {
                name: [sentence]
                for name, field in self.fields.items()
                if data.get(name) is not None and (sentence := _wrong_kind(field, data[name]))
            }
            if wrong:
                raise serializers.ValidationError(wrong)
        return super().to_internal_value(data)


def _wrong_kind(field: Any, value: Any) -> str:
    """Return what is to be sent instead of a value of another kind; empty for one that may be right."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(field, serializers.ListField):
        if not isinstance(value, list):
            return _("Please send a list here.")
        return next((sentence for one in value if (sentence := _wrong_kind(field.child, one))), "")
    if isinstance(field, serializers.BooleanField):
        return "" if isinstance(value, bool) else _("Please send true or false here.")
    if isinstance(field, serializers.IntegerField):
        return "" if is_number and value == value // 1 else _("Please send a whole number here.")
    if isinstance(field, serializers.FloatField):
        return "" if is_number else _("Please send a number here.")
    return "" if isinstance(value, str) else _("Please send text here.")


class TokenSerializer(serializers.Serializer):
    """A token without its secret."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    hint = serializers.CharField(help_text="How the token begins.")
    scopes = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)


class MeSerializer(serializers.Serializer):
    """Whoever asks, and with which token."""

    id = serializers.UUIDField()
    email = serializers.EmailField()
    name = serializers.CharField()
    role = serializers.ChoiceField(choices=["doctor", "patient", "administrator"])
    hospital = serializers.CharField(allow_null=True)
    may_work = serializers.BooleanField(help_text="False for a doctor whom nobody has approved yet.")
    token = TokenSerializer(allow_null=True, help_text="Empty where a session asks.")
