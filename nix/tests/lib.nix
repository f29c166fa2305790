# As much of nixpkgs' `lib` as module.nix and options.nix use, and as much of its module system as it takes to evaluate
# them where there is no nixpkgs: options with their defaults, what a test sets, and conditions.
#
# Absent: types (they are asked nothing), merging of one option that is set twice, and files of others.
let
  inherit (builtins)
    attrNames
    concatStringsSep
    filter
    foldl'
    hasAttr
    head
    isAttrs
    listToAttrs
    map
    mapAttrs
    tail
    ;

  inherit (import ../plan.nix) over;

  types = {
    listOf = _: "type";
    attrsOf = _: "type";
    nullOr = _: "type";
    enum = _: "type";
    str = "type";
    bool = "type";
    int = "type";
    path = "type";
    package = "type";
    anything = "type";
  };

  lib = {
    inherit types;
    mkOption = option: option // { isOption = true; };
    mkEnableOption = _: {
      isOption = true;
      default = false;
    };
    mkIf = condition: content: { inherit condition content; };
    mkDefault = value: value;
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    mkMerge = parts: { inherit parts; };
    mkRenamedOptionModule = from: to: { inherit from to; };
    mkRemovedOptionModule = from: instead: { inherit from instead; };
    optional = condition: value: if condition then [ value ] else [ ];
    genAttrs =
      names: make:
      listToAttrs (
        map (name: {
          inherit name;
          value = make name;
        }) names
      );
  };

  # What options come to: what is set, or their defaults. What is set and is no option is an error.
  values =
    path: options: set:
    let
      unknown = filter (name: !(hasAttr name options)) (attrNames set);
      value =
        name: option:
        let
          here = "${path}.${name}";
        in
        if !(option.isOption or false) then
          values here option (set.${name} or { })
        else
          set.${name} or option.default or (throw "${here} has no value");
    in
    if unknown == [ ] then mapAttrs value options else throw "no such option: ${path}.${head unknown}";

  # What is set under a former name.
  at = path: set: if path == [ ] then set else at (tail path) (set.${head path});
  isAt = path: set: path == [ ] || (isAttrs set && hasAttr (head path) set && isAt (tail path) set.${head path});
  put =
    path: value:
    if path == [ ] then value else { ${head path} = put (tail path) value; };
  without =
    path: set:
    if tail path == [ ] then removeAttrs set [ (head path) ]
    else
      let
        left = without (tail path) set.${head path};
        rest = removeAttrs set [ (head path) ];
      in
      if left == { } then rest else rest // { ${head path} = left; };
  rename =
    set: option:
    if !(isAt option.from set) then set
    else if option ? instead then throw "${concatStringsSep "." option.from}: please remove it. ${option.instead}"
    else over (without option.from set) (put option.to (at option.from set));

  # Conditions that don't hold and their content are gone.
  settled =
    part:
    if !(isAttrs part) then part
    else if part ? condition then (if part.condition then settled part.content else { })
    else if part ? parts then foldl' over { } (map settled part.parts)
    else mapAttrs (_: settled) part;
in
{
  inherit lib;

  # What a machine with these services comes to.
  evaluate =
    module: services:
    let
      pkgs = {
        callPackage = _: _: "/nix/store/ncps";
        # In the place of a file in the store: its text.
        writeText = name: text: "(${name}: ${text})";
      };
      evaluated = module { inherit lib pkgs config; };
      set = foldl' rename { inherit services; } evaluated.imports;
      config.services = values "services" evaluated.options.services set.services;
      result = settled evaluated.config;
      failed = filter (check: !check.assertion) (result.assertions or [ ]);
    in
    if failed == [ ] then result else throw (head failed).message;
}
