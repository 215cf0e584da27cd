"""All routes of the directory, for the public application and for the one in process."""

from fastapi import APIRouter

from app.api.directory import messages, users, workflows

router = APIRouter()
router.include_router(users.router)
router.include_router(workflows.router)
router.include_router(messages.router)
