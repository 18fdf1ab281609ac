// How toasts look. Pages set the custom properties below on `video-notifier-toasts`, or style its parts.

export const STYLE = `
:host {
  --_bg: var(--vn-background, #fff);
  --_fg: var(--vn-color, #1a1a22);
  --_dim: var(--vn-dim, #5b5b6b);
  --_accent: var(--vn-accent, #4338ca);
  --_line: var(--vn-border, #dcdce4);
  all: initial;
  position: fixed;
  inset-block-end: 0;
  inset-inline-end: 0;
  z-index: var(--vn-z-index, 2147483000);
  font: var(--vn-font, 0.9375rem/1.4 system-ui, sans-serif);
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :host {
    --_bg: var(--vn-background, #1e1e27);
    --_fg: var(--vn-color, #f2f2f7);
    --_dim: var(--vn-dim, #b3b3c2);
    --_accent: var(--vn-accent, #a5b4fc);
    --_line: var(--vn-border, #3a3a48);
  }
}
.vw-status {
  position: absolute;
  width: 1px;
  height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}
.vw-stack {
  list-style: none;
  margin: 0;
  padding: 1rem max(1rem, env(safe-area-inset-right)) max(1rem, env(safe-area-inset-bottom)) max(1rem, env(safe-area-inset-left));
  display: flex;
  flex-direction: column;
  gap: 0.75rem;
  width: var(--vn-width, 23rem);
  max-width: 100vw;
  max-height: 100vh;
  overflow-y: auto;
  box-sizing: border-box;
}
.vw-stack:empty { display: none; }
.vw-toast {
  display: flex;
  align-items: flex-start;
  gap: 0.5rem;
  box-sizing: border-box;
  padding: 0.875rem 0.75rem 0.875rem 1rem;
  color: var(--_fg);
  background: var(--_bg);
  border: 1px solid var(--_line);
  border-radius: var(--vn-radius, 0.75rem);
  box-shadow: 0 0.5rem 1.5rem #0003;
  animation: vw-in 0.2s ease-out;
}
@keyframes vw-in { from { opacity: 0; transform: translateY(0.75rem); } }
@media (prefers-reduced-motion: reduce) { .vw-toast { animation: none; } }
.vw-body { flex: 1; min-width: 0; overflow-wrap: anywhere; }
.vw-headline { margin: 0; font-weight: 600; }
.vw-time { color: var(--_dim); font-size: 0.8125em; }
.vw-videos { list-style: none; margin: 0; padding: 0; }
.vw-video { display: flex; align-items: center; gap: 0.625rem; margin-block-start: 0.5rem; }
.vw-thumb { width: 4rem; aspect-ratio: 16 / 9; object-fit: cover; border-radius: 0.25rem; flex: none; background: var(--_line); }
.vw-title {
  display: -webkit-box;
  -webkit-box-orient: vertical;
  -webkit-line-clamp: 2;
  overflow: hidden;
  min-width: 0;
  flex: 1;
  color: inherit;
}
a.vw-title { text-decoration: none; }
a.vw-title:hover { text-decoration: underline; }
.vw-open { display: inline-block; margin-block-start: 0.625rem; min-height: 1.5rem; color: var(--_accent); font-weight: 600; }
.vw-close {
  flex: none;
  width: 2rem;
  height: 2rem;
  padding: 0;
  font: 1.25rem/1 system-ui, sans-serif;
  color: var(--_dim);
  background: none;
  border: 0;
  border-radius: 0.375rem;
  cursor: pointer;
}
.vw-close:hover { color: var(--_fg); }
:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; }
@media (forced-colors: active) {
  .vw-close { color: ButtonText; border: 1px solid ButtonText; }
}
@media print { :host { display: none; } }
`
