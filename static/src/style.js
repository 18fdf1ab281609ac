/**
 * How toasts look. A site changes it by the custom properties named here, or by `::part()`; nothing of the site's own
 * style comes in otherwise.
 */

export const style = `
:host { display: contents }
/* Not on the host: there the site's own rules, even one for all elements, would win. */
.frame {
  all: initial;
  position: fixed;
  z-index: var(--vn-z-index, 2147483000);
  inset-block-end: max(var(--vn-inset, 16px), env(safe-area-inset-bottom));
  inset-inline-end: max(var(--vn-inset, 16px), env(safe-area-inset-right));
  inline-size: min(var(--vn-width, 380px), 100% - 2 * var(--vn-inset, 16px));
  pointer-events: none;
  font: var(--vn-font, 400 0.9375rem/1.4 system-ui, sans-serif);
  --text: #16181d;
  --soft: #5a6070;
  --back: #fff;
  --line: #d9dce3;
  --mark: #c2185b;
  --ring: #0b57d0;
}
@media (prefers-color-scheme: dark) {
  .frame {
    color-scheme: dark;
    --text: #f2f3f5;
    --soft: #aab0bd;
    --back: #1d2026;
    --line: #3a3f4a;
    --mark: #ff6f9f;
    --ring: #a8c7fa;
  }
}
@media print { .frame { display: none } }
* { box-sizing: border-box; margin: 0; padding: 0 }
.live {
  position: absolute;
  inline-size: 1px;
  block-size: 1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}
.stack {
  display: grid;
  gap: 10px;
  max-block-size: 100vh;
  /* What scrolls also clips: room for the shadows. */
  padding: 32px;
  margin: -32px;
  overflow-y: auto;
  overscroll-behavior: contain;
}
[hidden] { display: none }
.vw-toast {
  pointer-events: auto;
  display: grid;
  grid-template-columns: 1fr auto;
  gap: 8px;
  padding-block: 14px;
  padding-inline: 16px 12px;
  color: var(--vn-color, var(--text));
  background: var(--vn-background, var(--back));
  border: 1px solid var(--vn-border, var(--line));
  border-inline-start: 4px solid var(--vn-accent, var(--mark));
  border-radius: var(--vn-radius, 12px);
  box-shadow: var(--vn-shadow, 0 8px 28px rgb(0 0 0 / .22));
  animation: in .25s ease-out;
}
.content { display: grid; gap: 10px; min-inline-size: 0; overflow-wrap: anywhere }
h2 { font: inherit; font-weight: 650 }
ul { display: grid; gap: 8px; list-style: none }
li { display: flex; gap: 10px; align-items: center; min-inline-size: 0 }
img { flex: none; inline-size: 64px; block-size: 36px; object-fit: cover; border-radius: 6px; background: rgb(128 128 128 / .2) }
.title {
  unicode-bidi: isolate;
  display: -webkit-box;
  -webkit-box-orient: vertical;
  -webkit-line-clamp: 2;
  overflow: hidden;
}
.more { color: var(--vn-muted, var(--soft)) }
a { color: inherit; text-underline-offset: 2px }
a:hover { text-decoration-thickness: 2px }
:focus-visible { outline: 2px solid var(--vn-focus, var(--ring)); outline-offset: 2px; border-radius: 4px }
button {
  align-self: start;
  inline-size: 32px;
  block-size: 32px;
  font: 1.25rem/1 system-ui, sans-serif;
  color: inherit;
  background: none;
  border: 0;
  border-radius: 8px;
  cursor: pointer;
}
button:hover { background: rgb(128 128 128 / .2) }
@keyframes in { from { opacity: 0; transform: translateY(12px) } }
@media (prefers-reduced-motion: reduce) { .vw-toast { animation: none } }
@media (forced-colors: active) {
  .vw-toast { border-color: CanvasText }
  button { border: 1px solid ButtonText }
}
`;
