/** Files of a work tree that say how git takes the others. */

export const IGNORE_FILE = ".gitignore";
export const ATTRIBUTES_FILE = ".gitattributes";
