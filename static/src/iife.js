// notifier.js, for a script tag: puts the class on the window and starts by itself.

import { start } from './auto.js'
import { VideoNotifier } from './notifier.js'

Object.assign(globalThis, { VideoNotifier })
if (typeof document !== 'undefined') start(document.currentScript)
