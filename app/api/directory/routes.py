"""All routes of the directory, for the public application and for the one in process."""

from fastapi import APIRouter

from app.api.directory import audiences, bulk_operations, objects, tenants, users, workflows

router = APIRouter()
router.include_router(users.router)
router.include_router(objects.router)
router.include_router(tenants.router)
router.include_router(audiences.router)
router.include_router(workflows.router)
router.include_router(bulk_operations.router)
