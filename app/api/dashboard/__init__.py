"""The dashboard: pages that the API process serves at `/`, made on the server with Jinja2 and moved by htmx.

How to add a screen:

1. Its file, `app/api/dashboard/<screen>.py`, with `router = APIRouter(route_class=PageRoute)`; its templates
   in `templates/<screen>/`; its styles, if it needs some, in `assets/<screen>.css`, imported by
   `assets/screens.css`. Put the router into ROUTERS of `routes.py`. `navigation.py` names every place there
   is: an entry, or a tab of a source's page, is shown as soon as its path has a route.
2. A handler takes a `ReadVisit`, `WriteVisit` or `AdminVisit` (`session.py`), which is login, scope, CSRF
   check and environment in one. It calls the functions in `app/` that the Management API calls, ends a change
   with `save` (`app/api/management/dependencies.py`), and answers with
   - `visit.page("screen/page.html", ...)`, a whole page, which extends `layout.html`;
   - `visit.part("screen/part.html", ..., toast="Saved")`, a part, for a request by htmx;
   - `visit.go(url, toast="Deleted")`, another page after a change, with htmx or without.
3. What is refused is raised as `RequestError`; `request.py` makes a page or a toast of it. A form with bad
   input is shown again, with status 422, what was typed, and `errors=field_messages(error, within="source")`
   (`forms.py`): a message for each field, `errors[""]` for what belongs to none.
4. Links are made by `visit.url("/sources", status="failed")` and `visit.here(after=cursor)`, which keep the
   environment. Templates offer only what `visit.may("write")` allows; the server refuses the rest anyway.
5. Forms by htmx (`hx-post`) carry the session's token by themselves; forms without it contain `{{ ui.csrf()
   }}`. A body is read with `await read_form(visit.request)`.
6. Live parts: `live.follow_log(visit, filter, write)` answers a stream of HTML for
   `<div hx-ext="sse" sse-connect="..." sse-swap="log" hx-swap="afterbegin">`.
7. The policy forbids inline scripts and styles: no `style=`, no `on...=`, no `hx-on`, no `hx-vals='js:...'`.
   Behaviour goes into `assets/*.js`, hung on `data-` attributes, which all of them re-read after a swap
   (`htmx.onLoad`). A part that only some pages use is loaded by them alone: see `parts` in
   `assets/dashboard.js`.
8. A tab of a source's page calls `open_source_page(visit, key)` (`source_page.py`), gives it to the template
   as `page`, and the template extends `sources/page.html` and fills its block `tab`.
9. The components are listed at the top of `templates/components.html`; `[data-search]` is what `/` focuses,
   `data-shortcut="g x"` what two keys open, `data-copy` what a click copies, `data-dialog="id"` opens a
   dialog. `<div data-editor>` (`ui.editor`) is the code editor, `<div data-chart>` a chart (see
   `assets/charts.js`).
10. Its tests, `tests/api/dashboard/test_<screen>.py`, run in a real browser: see
    `tests/api/dashboard/conftest.py` (`page`,
   `stack`, `watched.expect(422)`, `assert_accessible(page)`, `show(page, "name")` for `--screenshots DIR`).
   After a change to `assets/`, `python web/build.py` builds them.
"""
