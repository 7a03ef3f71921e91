/** Start page and documents work without any script. With it, what is to be copied has a button. */
for (const element of document.querySelectorAll<HTMLElement>('[data-copy], .doc pre')) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'copy';
  button.textContent = 'Copy';
  button.addEventListener('click', () => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const text = (element.textContent ?? '').trim();
    const done = (word: string) => {
      button.textContent = word;
      setTimeout(() => (button.textContent = 'Copy'), 2000);
    };
    // Without https there is no clipboard: the words are marked, so that two keys copy them.
    const mark = () => {
      getSelection()?.removeAllRanges();
      getSelection()?.addRange(range);
      done('Marked');
    };
    if ('clipboard' in navigator) navigator.clipboard.writeText(text).then(() => done('Copied'), mark);
    else mark();
  });
  if (element.tagName !== 'PRE') element.after(button);
  else {
    // In its corner, and out of what scrolls.
    const frame = document.createElement('div');
    frame.className = 'code';
    element.before(frame);
    frame.append(element, button);
  }
}
export {};
