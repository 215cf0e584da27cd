"""The addresses of the navigation's sections: each leads to its first page."""

from fastapi import APIRouter, Response

from app.api.dashboard.pages import redirect
from app.api.dashboard.request import PageRoute
from app.api.dashboard.session import ReadVisit

router = APIRouter(route_class=PageRoute)


@router.get("/directory")
async def open_directory(visit: ReadVisit) -> Response:
    """To the users."""
    return redirect(visit.request, visit.url("/directory/users"))


@router.get("/settings")
async def open_settings(visit: ReadVisit) -> Response:
    """To the environments."""
    return redirect(visit.request, visit.url("/settings/environments"))
