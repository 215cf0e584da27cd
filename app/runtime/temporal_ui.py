"""Where a run is in Temporal's UI."""

from urllib.parse import quote

from app.core.settings import Settings


def run_url(settings: Settings, workflow_id: str | None, run_id: str | None) -> str | None:
    """The address of a run's history; None without DOORBELL_TEMPORAL_UI_URL, or when it has not started."""
    if settings.temporal_ui_url is None or workflow_id is None or run_id is None:
        return None
    root = settings.temporal_ui_url.rstrip("/")
    workflow = quote(workflow_id, safe="")
    return f"{root}/namespaces/{quote(settings.temporal_namespace)}/workflows/{workflow}/{run_id}/history"
