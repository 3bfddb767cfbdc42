"""Whoever asks the API."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.serializers import MeSerializer, TokenSerializer
from accounts.api.views import ApiView
from accounts.models import ApiToken


class Me(ApiView):
    """Whoever asks."""

    @extend_schema(operation_id="me", tags=["people"], responses=MeSerializer, summary="Who am I?")
    def get(self, request: Request) -> Response:
        """Tell whom the portal takes you for, and what your token may do."""
        user = self.user
        token = TokenSerializer(request.auth).data if isinstance(request.auth, ApiToken) else None
        may_work = user.is_approved_doctor or user.is_patient or user.is_administrator
        return Response(
            {
                "id": user.pk,
                "email": user.email,
                "name": user.get_full_name(),
                "role": user.role,
                "hospital": user.hospital.name if user.hospital is not None else None,
                "may_work": may_work,
                "token": token,
            }
        )
