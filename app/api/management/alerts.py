"""Failure alerts of a source: what was sent, the secret that signs them, a test. Doorbell's own.

When alerts are sent, and to whom, is the setting `failure_alert` of a source.
"""

from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.alerts.secrets import get_alert_secret
from app.alerts.store import deliveries_of, list_alerts, make_test_alert
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import ConfiguredDep, PageDep, ReadAccess, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import EntriesPage, Json, Timestamp, WrappedRequest, example, page_of
from app.models.alert import Alert, AlertDelivery, AlertSecret
from app.models.status import AlertStatus
from app.sources.edits import remove_alert_secret, save_alert_secret

router = APIRouter(
    prefix="/sources/{key}/alerts",
    tags=["Alerts"],
    route_class=ManagementRoute,
    responses={404: RESPONSES[404]},
)

MAXIMUM_SECRET_LENGTH = 1024

_ALERT = {
    "id": "01a20df1-e8fc-72f9-a988-19f172a42afd",
    "status": "delivered",
    "report": {
        "type": "source.failing",
        "timestamp": "2026-01-15T12:00:00+00:00",
        "data": {
            "source": "stripe",
            "environment": "production",
            "reasons": ["failed_events"],
            "window_minutes": 15,
            "failed_events": 12,
            "failed_share": None,
            "stuck_events": 0,
            "causes": [{"cause": "422 invalid_params: recipients is required", "events": 12}],
            "log_ids": ["01a20df0-1111-72f9-a988-19f172a42afd"],
            "logs_url": "https://doorbell.example.com/sources/stripe/logs?environment=production&status=failed",
        },
    },
    "deliveries": [
        {
            "channel": "webhook",
            "receiver": "https://ops.example.com/doorbell",
            "status": "delivered",
            "attempts": 1,
            "error": None,
            "finished_at": "2026-01-15T12:00:01Z",
        }
    ],
    "created_at": "2026-01-15T12:00:00Z",
}


class DeliveryResponse(BaseModel):
    """An alert on its way to one receiver."""

    channel: Literal["webhook", "email"]
    receiver: str = Field(description="The URL, or the addresses.")
    status: AlertStatus
    attempts: int
    error: str | None = Field(description="Why the last attempt failed.")
    finished_at: Timestamp | None = Field(description="When it was delivered or given up.")


class AlertResponse(BaseModel):
    """An alert: what it says, and how it was delivered."""

    model_config = example(**_ALERT)

    id: UUID
    status: AlertStatus = Field(description="`failed` when one of the deliveries is.")
    report: Json = Field(description="What was sent: the body of the webhook.")
    deliveries: list[DeliveryResponse]
    created_at: Timestamp


class WrappedAlertResponse(BaseModel):
    """An alert under the key `alert`."""

    model_config = example(alert=_ALERT)

    alert: AlertResponse


class AlertSecretRequest(BaseModel):
    """The secret that signs alerts."""

    model_config = ConfigDict(extra="forbid")

    value: SecretStr = Field(
        min_length=1,
        max_length=MAXIMUM_SECRET_LENGTH,
        description="`whsec_`, and after it base64 of 24 to 64 random bytes. It is never shown again.",
    )


class WrappedAlertSecretRequest(WrappedRequest):
    """A secret under the key `secret`."""

    model_config = example(secret={"value": "whsec_c2VjcmV0LW9mLWF0LWxlYXN0LTI0LWJ5dGVz"})

    secret: AlertSecretRequest


class AlertSecretResponse(BaseModel):
    """That there is a secret. Its value is never shown."""

    created_at: Timestamp


class WrappedAlertSecretResponse(BaseModel):
    """A secret under the key `secret`."""

    model_config = example(secret={"created_at": "2026-01-01T00:00:00Z"})

    secret: AlertSecretResponse


def _response(found: tuple[Alert, list[AlertDelivery]]) -> AlertResponse:
    alert, deliveries = found
    return AlertResponse(
        **alert.model_dump(include={"id", "status", "report", "created_at"}),
        deliveries=[DeliveryResponse(**each.model_dump(exclude={"alert_id"})) for each in deliveries],
    )


def _secret_response(secret: AlertSecret) -> WrappedAlertSecretResponse:
    return WrappedAlertSecretResponse(secret=AlertSecretResponse(created_at=secret.created_at))


@router.get("", summary="List alerts")
async def list_source_alerts(
    access: ReadAccess, session: SessionDep, configured: ConfiguredDep, page: PageDep
) -> EntriesPage[AlertResponse]:
    """The alerts about the source in an environment, newest first: what each said, and how it was
    delivered."""
    return page_of(await list_alerts(session, configured, page), AlertResponse, _response)


@router.post("/test", summary="Send a test alert", status_code=201)
async def send_test_alert(
    access: WriteAccess, session: SessionDep, runtime: RuntimeDep, configured: ConfiguredDep
) -> WrappedAlertResponse:
    """Tell the receivers how the source is now. Its `type` is `source.alert_test`; it opens no window."""
    alert = await make_test_alert(session, configured, runtime.settings.base_url)
    deliveries = await deliveries_of(session, [alert.id])
    await session.commit()
    return WrappedAlertResponse(alert=_response((alert, deliveries[alert.id])))


@router.get("/secret", summary="Get the alerts' signing secret")
async def read_secret(
    access: ReadAccess, session: SessionDep, configured: ConfiguredDep
) -> WrappedAlertSecretResponse:
    """Since when there is one. Its value is never shown."""
    return _secret_response(await get_alert_secret(session, configured))


@router.put("/secret", summary="Set the alerts' signing secret")
async def save_secret(
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    configured: ConfiguredDep,
    body: WrappedAlertSecretRequest,
) -> WrappedAlertSecretResponse:
    """Webhooks of alerts are signed with it from now on, as Standard Webhooks says."""
    value = body.secret.value.get_secret_value()
    secret = await save_alert_secret(session, access, runtime.box, configured, value)
    await session.commit()
    return _secret_response(secret)


@router.delete("/secret", summary="Delete the alerts' signing secret", status_code=204)
async def delete_secret(access: WriteAccess, session: SessionDep, configured: ConfiguredDep) -> None:
    """Webhooks of alerts are not signed any more."""
    await remove_alert_secret(session, access, configured)
    await session.commit()
