// Compiled, never run: the hand-written types must describe the class that is shipped.

import type { VideoNotifier as Declared, Notification as Shipped } from '../notifier.js'
import { VideoNotifier } from '../src/notifier.js'

const notifier: Declared = new VideoNotifier('wss://notify.example.com/ws', { regions: ['US'], maxAge: 60 })
notifier.addEventListener('notification', (event) => {
  const { id, count, videos }: Shipped = event.detail
  console.info(id, count, videos[0]?.title)
})
notifier.addEventListener('gap', (event) => console.info(event.detail.since))
notifier.addEventListener('statechange', (event) => console.info(event.detail.state === 'open'))
