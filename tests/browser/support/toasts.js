// Where toasts are, as expressions for `page.evaluate`.

export const ROOT = `document.querySelector('video-notifier-toasts')?.shadowRoot`

export const TOASTS = `[...(${ROOT}?.querySelectorAll('.vw-toast') ?? [])]`

/** The headlines that stand, oldest first. */
export const HEADLINES = `${TOASTS}.map((toast) => toast.querySelector('.vw-headline').textContent)`

/** The titles of videos in all toasts. */
export const TITLES = `${TOASTS}.flatMap((toast) => [...toast.querySelectorAll('.vw-title')].map((it) => it.textContent))`

export const STATUS = `${ROOT}.querySelector('[role=status]').textContent`
