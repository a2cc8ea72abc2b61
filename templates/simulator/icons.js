// Line icons, drawn here so that no font decides how they look.

const PATHS = {
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  plus: "M12 5v14M5 12h14",
  menu: "M5 7h14M5 12h14M5 17h14",
  keyboard: "M3 7h18v10H3zM7 11h.01M11 11h.01M15 11h.01M8 14h8",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9h.01",
  voice: "M12 4a2.5 2.5 0 0 1 2.5 2.5v5a2.5 2.5 0 0 1-5 0v-5A2.5 2.5 0 0 1 12 4zM6.5 11.5a5.5 5.5 0 0 0 11 0M12 17v3",
  video: "M4 7h11v10H4zM15 11l5-3v8l-5-3z",
  location: "M12 21s-6.5-6-6.5-11a6.5 6.5 0 0 1 13 0c0 5-6.5 11-6.5 11zM12 12.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4z",
  link: "M10 14a4 4 0 0 0 5.7 0l3-3a4 4 0 0 0-5.7-5.7l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.700l1-1",
  scan: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M4 12h16",
  event: "M13 3L5 14h6l-1 7 8-11h-6z",
  friend: "M4 12l16-8-6 16-3-6.500zM11 13.500L20 4",
  timeline: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM12 4l4 7M20 12l-8 1M12 20l-4-7M4 12l8-1M6 6.500l7 4M18 17.500l-7-4",
  qq: "M5 18l1.500-4A7 7 0 1 1 10 17.700z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  refresh: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
  newtab: "M9 5H5v14h14v-4M13 5h6v6M19 5l-9 9",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  program: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM8.500 13.500a2 2 0 1 0 3.500-1.500V9a2 2 0 1 1 3 1.700",
  play: "M8 5l11 7-11 7z",
  music: "M9 17.500V6l10-2v11.500M6.500 20a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5zM16.500 18a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5z",
  article: "M5 4h14v16H5zM8.500 9h7M8.500 13h7M8.500 17h4",
};
const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon icon-" + name })) svg.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

// Puts the icons into the buttons that the document itself has.
export function start() {
  for (const node of document.querySelectorAll("[data-icon]")) node.replaceChildren(icon(node.dataset.icon));
}
