"""All routes of the directory, for the public application and for the one in process."""

from fastapi import APIRouter

from app.api.directory import (
    audiences,
    bulk_operations,
    messages,
    objects,
    recipient_settings,
    schemas,
    tenants,
    users,
    workflows,
)

router = APIRouter(responses=schemas.ERRORS)
router.include_router(users.router)
router.include_router(objects.router)
router.include_router(tenants.router)
router.include_router(recipient_settings.router)
router.include_router(audiences.router)
router.include_router(workflows.router, responses=schemas.MISSING)
router.include_router(messages.router)
router.include_router(bulk_operations.router)
