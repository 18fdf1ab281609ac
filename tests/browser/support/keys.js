/** Keys as WebDriver has them, and WebDriver BiDi after it. */

const KEYS = { Shift: "\uE008", Tab: "\uE004", Escape: "\uE00C", Enter: "\uE007" };

/** What presses a key and lets it go. */
export function press(key, { shift = false } = {}) {
  const down = (name) => ({ type: "keyDown", value: KEYS[name] });
  const up = (name) => ({ type: "keyUp", value: KEYS[name] });
  const actions = shift ? [down("Shift"), down(key), up(key), up("Shift")] : [down(key), up(key)];
  return [{ type: "key", id: "keyboard", actions }];
}
