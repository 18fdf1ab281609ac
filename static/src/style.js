/**
 * How toasts look. A site changes it by the custom properties named here, or by `::part()`; nothing of the site's own
 * style comes in otherwise. Colours are the system's: light, dark, and those of forced colours without another word.
 */

export const style = `
:host { display: contents }
/* Not on the host: there the site's own rules, even one for all elements, would win. */
.frame {
  all: initial;
  color-scheme: var(--vn-color-scheme, light dark);
  position: fixed;
  z-index: var(--vn-z-index, 9999999);
  bottom: max(var(--vn-inset, 16px), env(safe-area-inset-bottom));
  inset-inline-end: max(var(--vn-inset, 16px), env(safe-area-inset-right));
  width: min(var(--vn-width, 380px), 100% - 2 * var(--vn-inset, 16px));
  pointer-events: none;
  font: var(--vn-font, .9375rem/1.4 system-ui, sans-serif);
}
* { box-sizing: border-box; margin: 0; padding: 0; gap: 10px; font: inherit; color: inherit }
.live { position: absolute; clip-path: inset(50%) }
.stack {
  display: grid;
  max-height: 100vh;
  /* What scrolls also clips: room for the shadows. */
  padding: 32px;
  margin: -32px;
  overflow: auto;
}
.stack:empty { display: none }
.vw-toast {
  pointer-events: auto;
  display: grid;
  grid: auto / 1fr auto;
  padding: 14px;
  color: var(--vn-color, CanvasText);
  background: var(--vn-background, Canvas);
  border: 1px solid var(--vn-border, #8886);
  border-inline-start: 4px solid var(--vn-accent, #d81b60);
  border-radius: var(--vn-radius, 12px);
  box-shadow: var(--vn-shadow, 0 8px 28px #0004);
}
.content, .list { display: grid; overflow-wrap: anywhere; list-style: none }
.headline { font-weight: 650 }
.item { display: flex; align-items: center }
.thumb { flex: none; width: 64px; height: 36px; object-fit: cover; border-radius: 8px }
.more, .time { opacity: .8 }
.close {
  width: 1.6em;
  height: 1.6em;
  font-size: 1.25rem;
  background: none;
  border: 0;
  border-radius: 8px;
}
.close:hover { background: #8883 }
:focus-visible { outline: 2px solid var(--vn-focus, currentColor); outline-offset: 2px }
@keyframes in { from { opacity: 0; translate: 0 12px } }
@media (prefers-reduced-motion: no-preference) { .vw-toast { animation: in .25s } }
`;
