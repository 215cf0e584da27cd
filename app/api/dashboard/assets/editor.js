// The code editor: `<div data-editor="javascript|json">` around a textarea, which keeps the text for its form. It lives in
// a shadow root, where its styles are constructed ones, which the policy against inline styles allows.

import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { javascript } from "@codemirror/lang-javascript";
import { json, jsonParseLinter } from "@codemirror/lang-json";
import { HighlightStyle, bracketMatching, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { linter } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView, drawSelection, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

const languages = {
  javascript: () => [javascript()],
  json: () => [json(), linter((view) => (view.state.doc.toString().trim() ? jsonParseLinter()(view) : []))],
};

const colours = HighlightStyle.define([
  { tag: tags.comment, color: "var(--text-faint)" },
  { tag: [tags.keyword, tags.bool, tags.null], color: "light-dark(#b4491a, #ff9f6b)" },
  { tag: [tags.string, tags.regexp], color: "light-dark(#0f5d3f, #7fd6a8)" },
  { tag: tags.number, color: "light-dark(#1d57ad, #86b4ff)" },
  { tag: [tags.propertyName, tags.definition(tags.variableName)], color: "light-dark(#5b3ea6, #b79cff)" },
  { tag: tags.function(tags.variableName), color: "light-dark(#1d57ad, #86b4ff)" },
]);

const look = EditorView.theme({
  "&": { backgroundColor: "var(--surface)", color: "var(--text)", fontSize: "12.5px", minHeight: "118px" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "-1px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55", maxHeight: "60vh" },
  ".cm-content": { padding: "8px 0", caretColor: "var(--accent)" },
  ".cm-cursor": { borderLeftColor: "var(--accent)" },
  ".cm-gutters": { backgroundColor: "var(--surface)", color: "var(--text-faint)", border: "0" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--hover)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "light-dark(#f6d3bf, #5a3016)",
  },
  ".cm-tooltip": { backgroundColor: "var(--surface)", border: "1px solid var(--line)", color: "var(--text)" },
});

// Text over a selection. Browsers would keep the looks of what it replaces as inline styles, against the policy.
function replaceSelection(event, view) {
  const { from, to, empty } = view.state.selection.main;
  if (event.inputType !== "insertText" || event.isComposing || event.data === null || empty) return false;
  event.preventDefault();
  const insert = () =>
    view.state.update(view.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
  const handlers = view.state.facet(EditorView.inputHandler);
  if (!handlers.some((handle) => handle(view, from, to, event.data, insert))) view.dispatch(insert());
  return true;
}

export function enhance(frame) {
  const field = frame.querySelector("textarea");
  if (!field || frame.shadowRoot) return;
  const root = frame.attachShadow({ mode: "open" });
  const isReadOnly = field.readOnly || field.disabled;
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: field.value,
      extensions: [
        lineNumbers(),
        history(),
        drawSelection(),
        indentOnInput(),
        indentUnit.of("  "),
        bracketMatching(),
        closeBrackets(),
        autocompletion(),
        highlightActiveLine(),
        syntaxHighlighting(colours),
        look,
        EditorView.lineWrapping,
        EditorView.domEventHandlers({ beforeinput: replaceSelection }),
        languages[frame.dataset.editor](),
        EditorState.readOnly.of(isReadOnly),
        // Tab leaves the editor, as everywhere on a page: who works with the keyboard is not caught in it.
        keymap.of([...closeBracketsKeymap, ...defaultKeymap, ...historyKeymap, ...completionKeymap]),
        EditorView.contentAttributes.of({
          "aria-label": frame.dataset.label ?? "Code",
          tabindex: "0",
          ...(field.getAttribute("aria-invalid") ? { "aria-invalid": "true" } : {}),
        }),
        EditorView.updateListener.of((update) => {
          if (!update.docChanged) return;
          field.value = update.state.doc.toString();
          field.dispatchEvent(new Event("input", { bubbles: true }));
        }),
      ],
    }),
  });
  // For buttons that fill it: set `value` and say so.
  frame.addEventListener("editor:set", ({ detail }) =>
    view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: detail } }),
  );
}
