"""The documentation page, `/docs`. Its script and style come from an installed package, nothing from the internet."""

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

ASSETS = "/docs/assets"
# The package is here for the files of Swagger UI that it carries.
PACKAGE = ("fastapi_offline", "static")


def install(app: FastAPI) -> None:
    """Let the application serve its documentation. The application is made with `docs_url=None`."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=app.openapi_url or "/openapi.json",
            title=f"{app.title} API",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
            # Swagger UI would let a service on the internet check the document.
            swagger_ui_parameters={"validatorUrl": None, "persistAuthorization": True},
        )

    app.mount(ASSETS, StaticFiles(packages=[PACKAGE]), name="docs-assets")
