/**
 * Messages, and the news that one was lost on the last step of its way. When a tab is closed, or sent elsewhere, Firefox
 * ends the script that runs in it, or the next that would, in the middle and without an error. The page lives on for a
 * moment, or for good where it stays after all, and is handed the next message as if nothing had been. So a listener of
 * its own counts what comes: only one of the two is ended.
 *
 * @param {{ onmessage: ((event: any) => void) | null, addEventListener: (type: "message", listener: () => void) => void }} target
 * @param {(data: any) => void} handle
 * @param {() => void} onLost called in place of it, with the message that follows on the one that was lost
 */
export function receive(target, handle, onLost) {
  let pending = 0;
  target.addEventListener("message", () => pending++);
  target.onmessage = ({ data }) => {
    if (pending < 2) handle(data);
    else onLost();
    // Last: what is ended in the middle has not been handled.
    pending = 0;
  };
}
