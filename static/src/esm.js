// notifier.esm.js, for `import`: nothing starts by itself.

export { VideoNotifier } from './notifier.js'
