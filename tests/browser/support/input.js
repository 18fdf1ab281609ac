/** What a reader does with keyboard and mouse, as WebDriver has it, and WebDriver BiDi after it. */

const KEYS = { Shift: "\uE008", Tab: "\uE004", Escape: "\uE00C", Enter: "\uE007" };

/** Presses a key and lets it go. */
export function press(key, { shift = false } = {}) {
  const down = (name) => ({ type: "keyDown", value: KEYS[name] });
  const up = (name) => ({ type: "keyUp", value: KEYS[name] });
  const actions = shift ? [down("Shift"), down(key), up(key), up("Shift")] : [down(key), up(key)];
  return [{ type: "key", id: "keyboard", actions }];
}

const pointer = (actions) => [{ type: "pointer", id: "mouse", parameters: { pointerType: "mouse" }, actions }];

const moveTo = (x, y) => ({ type: "pointerMove", x: Math.round(x), y: Math.round(y) });

export const move = (x, y) => pointer([moveTo(x, y)]);

export const click = (x, y) =>
  pointer([moveTo(x, y), { type: "pointerDown", button: 0 }, { type: "pointerUp", button: 0 }]);
